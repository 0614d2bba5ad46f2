//! Addresses of files, as file managers and browsers hand them over.

use percent_encoding::percent_decode_str;

/// The name of the file that an address names: `/tmp/my cat.jpg` of `file:///tmp/my%20cat.jpg`. `None`
/// where it is no address of a file on this machine.
pub fn file_url(address: &str) -> Option<String> {
    let rest = address.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    // A drive's letter stands behind a slash there.
    let path = match path.strip_prefix('/') {
        Some(drive) if cfg!(windows) && drive.get(1..2) == Some(":") => drive,
        _ => path,
    };
    let name = percent_decode_str(path).decode_utf8().ok()?;
    Some(name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_file_is_the_file_s_name() {
        for (address, name) in [
            ("file:///tmp/cat.jpg", Some("/tmp/cat.jpg")),
            ("file://localhost/tmp/my%20cat.jpg", Some("/tmp/my cat.jpg")),
            ("file:///K%C3%A4tzchen.jpg", Some("/Kätzchen.jpg")),
            // No two digits behind it: it stands for itself.
            ("file:///100%.jpg", Some("/100%.jpg")),
            ("file:///100%", Some("/100%")),
            ("file:///%+1%zz", Some("/%+1%zz")),
            ("file:///%FF", None),
            ("/tmp/my%20cat.jpg", None),
            ("https://a.b/cat.jpg", None),
        ] {
            assert_eq!(file_url(address).as_deref(), name, "{address}");
        }
    }
}
