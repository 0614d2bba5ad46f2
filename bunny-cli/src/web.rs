//! `bunny-cli web`: the page with the model in the tab, as files for any host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bunny_base::write_atomic;
use bunny_core::checkpoint::builtin;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    files::OutputFolder,
    load::BUILTIN,
    serve::{BUILTIN_CARD, samples},
};

/// Where `bunny-web/build.sh` leaves the module.
const BUILT: &str = "bunny-web/dist/bunny.wasm.gz";

/// What a page with a model of its own has beside the server's page, and in place of its `backend.js`.
const SCRIPTS: [(&str, &str); 8] = [
    ("backend.js", include_str!("../web/page/backend.js")),
    ("sw.js", include_str!("../web/page/sw.js")),
    ("bunny.js", include_str!("../web/bunny.js")),
    ("bunny.d.ts", include_str!("../web/bunny.d.ts")),
    ("archive.js", include_str!("../web/archive.js")),
    ("engine.js", include_str!("../web/engine.js")),
    ("files.js", include_str!("../web/files.js")),
    ("worker.js", include_str!("../web/worker.js")),
];

/// What the page may do: run its own scripts and module, and fetch models that somebody names.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; connect-src 'self' https: http://localhost:*; base-uri 'none'; form-action 'none'";

/// Writes a page that runs the built-in model in the browser, for any host of static files.
///
/// The same page as `serve` has, with nothing behind it: the model answers in the tab, and the page opens
/// again without a network. Needs the engine as WebAssembly, which bunny-web/build.sh makes.
///
/// Example: bunny-cli web site --from bunny.wasm.gz
#[derive(Debug, clap::Args)]
pub struct WebArgs {
    /// The folder
    out: PathBuf,
    /// The engine as WebAssembly, as it is or packed by gzip; bunny-web/dist/bunny.wasm.gz unless given
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write into a folder that holds other files
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
///
/// # Errors
/// When there is no module, or a file cannot be written.
pub fn run(args: &WebArgs) -> Result<()> {
    let module = module(args.from.as_deref())?;
    let _out = OutputFolder::take(&args.out, args.force)?;
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = args.out.join(name);
        write_atomic(&path, |file| file.write_all(bytes))?;
        Ok(())
    };
    for (name, text) in bunny_serve::page_files() {
        match name {
            "index.html" => write(name, with_policy(text).as_bytes())?,
            "backend.js" => {}
            name => write(name, text.as_bytes())?,
        }
    }
    for (name, text) in SCRIPTS {
        write(name, text.as_bytes())?;
    }
    let samples: Result<Vec<Value>> = samples()
        .into_iter()
        .map(|sample| {
            let path = format!("samples/{}", sample.name);
            write(&path, sample.bytes)?;
            Ok(json!({"name": sample.name, "src": path}))
        })
        .collect();
    let page = json!({"model": BUILTIN, "card": BUILTIN_CARD, "samples": samples?});
    write("page.json", page.to_string().as_bytes())?;

    let packed = if is_packed(&module) { ".gz" } else { "" };
    let name = format!("bunny.wasm{packed}");
    write(&name, &module)?;
    let folder = args.out.join("model");
    let files: Result<Vec<Value>> = builtin::write(&folder)?
        .iter()
        .filter(|file| file.extension().is_none_or(|ending| ending != "md"))
        .map(|file| {
            let bytes = fs::read(file).with_context(|| file.display().to_string())?;
            Ok(listed(file.strip_prefix(&folder)?, &bytes))
        })
        .collect();
    let manifest = json!({
        "format_version": 1,
        "module": listed(Path::new(&name), &module),
        "model": {"name": BUILTIN, "folder": "model", "files": files?},
    });
    let manifest = serde_json::to_string_pretty(&manifest)?;
    // Last: who finds it finds the rest.
    write("web.json", manifest.as_bytes())?;
    let out = args.out.display();
    println!("{out} is a site: put it on any host of static files, or try it by");
    println!("python3 -m http.server --directory {out} 8000");
    Ok(())
}

/// The engine's bytes.
fn module(given: Option<&Path>) -> Result<Vec<u8>> {
    let path = given.unwrap_or(Path::new(BUILT));
    if given.is_none() && !path.exists() {
        bail!(
            "{BUILT} is not here: `bunny-web/build.sh` in this project's source makes it; name one that is elsewhere with --from"
        );
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    match is_packed(&bytes) || bytes.starts_with(b"\0asm") {
        true => Ok(bytes),
        false => bail!(
            "{}: no WebAssembly module, nor one packed by gzip",
            path.display()
        ),
    }
}

fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1F, 0x8B])
}

/// A file of the manifest: a page fetches it once, and again when its digest is another.
fn listed(path: &Path, bytes: &[u8]) -> Value {
    // Addresses have slashes on every system.
    let path: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let digest = Sha256::digest(bytes);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"path": path.join("/"), "bytes": bytes.len(), "sha256": digest})
}

/// A host of files sends no policy with the page: it says its own.
fn with_policy(page: &str) -> String {
    const HEAD: &str = "<meta charset=\"utf-8\">\n";
    let policy =
        format!("{HEAD}<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n");
    page.replacen(HEAD, &policy, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_the_servers_page_with_another_backend() {
        let folder = tempfile::tempdir().unwrap();
        let (module, out) = (folder.path().join("engine"), folder.path().join("site"));
        let args = |from: &Path| WebArgs {
            out: out.clone(),
            from: Some(from.into()),
            force: true,
        };
        fs::write(&module, "not a module").unwrap();
        let refused = run(&args(&module)).unwrap_err().to_string();
        assert!(refused.contains("no WebAssembly module"), "{refused}");
        assert!(!out.exists());

        fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
        run(&args(&module)).unwrap();
        let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        for (name, of_server) in bunny_serve::page_files() {
            match name {
                "index.html" => assert!(text(name).contains("wasm-unsafe-eval")),
                "backend.js" => assert_ne!(text(name), of_server),
                name => assert_eq!(text(name), of_server),
            }
        }
        let manifest: Value = serde_json::from_str(&text("web.json")).unwrap();
        assert_eq!(manifest["module"]["path"], "bunny.wasm");
        let files = manifest["model"]["files"].as_array().unwrap();
        for file in files {
            let bytes = fs::read(out.join("model").join(file["path"].as_str().unwrap())).unwrap();
            assert_eq!(file["bytes"], bytes.len());
        }
        assert!(
            files
                .iter()
                .any(|file| file["path"] == "siglip-tower/config.json")
        );
        // What the page keeps to open without a network is there.
        let kept = text("sw.js");
        let kept = kept.split_once("const FILES = [").unwrap().1;
        let kept = kept.split_once("];").unwrap().0;
        for name in kept
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|name| *name != "./")
        {
            assert!(out.join(name).exists(), "{name}");
        }
    }
}
