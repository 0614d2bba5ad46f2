//! `bunny-cli completions`: what a shell completes commands by.

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

/// Prints the script that a shell completes commands by.
///
/// Bash reads it from ~/.local/share/bash-completion/completions/bunny-cli, zsh as _bunny-cli from a
/// folder of $fpath, fish from ~/.config/fish/completions/bunny-cli.fish.
///
/// Example: bunny-cli completions fish > ~/.config/fish/completions/bunny-cli.fish
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the verb; `command` is what is completed.
///
/// # Errors
/// None but those of standard output, which end the program.
pub fn run(args: &CompletionsArgs, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    // In bash's script clap_complete 4.6.12 writes a dash of the program's name in two ways, and knows
    // no verb then: it is given another name, which stands where the script says what it is for.
    let (given, end) = match args.shell {
        Shell::Bash => (name.replace('-', "_"), "default "),
        _ => (name.clone(), ""),
    };
    // Whole before it is printed: the generator panics where it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut command, &given, &mut script);
    let script = String::from_utf8_lossy(&script);
    print!(
        "{}",
        script.replace(&format!("{end}{given}\n"), &format!("{end}{name}\n"))
    );
    Ok(())
}
