//! Where pictures may come from.

/// Where pictures may come from.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct PictureArgs {
    /// Fetch pictures from addresses of this machine and of private networks too
    #[arg(long)]
    pub allow_private_addresses: bool,
}
