//! Pictures from other servers, where their hosts are allowed.
//!
//! The resolver holds a fetch to what is allowed: it is asked before every connection, those of redirects
//! too, and the addresses that it gives are those that are connected to.

use std::{net::IpAddr, time::Duration};

use bunny_base::is_global;
use ureq::{
    Agent, Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// The longest that a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const REDIRECTS: u32 = 3;

/// Fetches pictures.
#[derive(Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    most: u64,
}

impl Fetcher {
    /// One that fetches at most `most` bytes, from these hosts.
    pub(crate) fn new(hosts: &[String], most: u64) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(REDIRECTS)
            .max_idle_connections(0)
            .proxy(None)
            .build();
        let allowed = AllowedHosts {
            hosts: hosts.to_vec(),
            resolver: DefaultResolver::default(),
        };
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), allowed),
            most,
        }
    }

    /// The bytes at an address.
    ///
    /// # Errors
    /// That it cannot be had: what is there, and why not, is nothing that a client should learn.
    pub(crate) fn fetch(&self, address: &str) -> Result<Vec<u8>, String> {
        let got = self.agent.get(address).call().and_then(|mut response| {
            let body = response.body_mut().with_config().limit(self.most);
            body.read_to_vec()
        });
        got.map_err(|error| {
            tracing::debug!("{error}");
            "a picture's address cannot be fetched, or its host is none that this server allows"
                .into()
        })
    }
}

/// Finds the addresses of hosts that are allowed, and of no others.
#[derive(Debug)]
struct AllowedHosts {
    hosts: Vec<String>,
    resolver: DefaultResolver,
}

impl Resolver for AllowedHosts {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = bare(uri.host().unwrap_or_default());
        if !self
            .hosts
            .iter()
            .any(|allowed| bare(allowed).eq_ignore_ascii_case(host))
        {
            return Err(Error::HostNotFound);
        }
        let addresses = self.resolver.resolve(uri, config, timeout)?;
        // A name may lead anywhere, and tomorrow elsewhere; who writes an address means it.
        let is_meant = host.parse::<IpAddr>().is_ok();
        match is_meant || addresses.iter().all(|address| is_global(address.ip())) {
            true => Ok(addresses),
            false => Err(Error::HostNotFound),
        }
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener},
        thread,
    };

    use super::*;

    /// A server of one answer, whose host is an address or a name.
    fn one_answer(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn fetch(hosts: &[&str], most: u64, address: &str) -> Option<Vec<u8>> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        Fetcher::new(&hosts, most).fetch(address).ok()
    }

    #[test]
    fn what_is_allowed_is_fetched_as_far_as_it_may_be() {
        let there = one_answer(ok("picture"));
        let found = fetch(&["127.0.0.1"], 100, &format!("http://{there}/a.png"));
        assert_eq!(found.as_deref(), Some(&b"picture"[..]));
        let there = one_answer(ok("picture"));
        assert_eq!(
            fetch(&["127.0.0.1"], 3, &format!("http://{there}/a.png")),
            None
        );
    }

    #[test]
    fn neither_names_nor_redirects_lead_where_nothing_is_allowed() {
        // Nobody answers at these: they are not connected to.
        assert_eq!(fetch(&[], 100, "http://127.0.0.1:1/"), None);
        assert_eq!(fetch(&["example.com"], 100, "http://127.0.0.1:1/"), None);
        let there = one_answer(ok("secret"));
        let port = there.port();
        assert_eq!(
            fetch(&["localhost"], 100, &format!("http://localhost:{port}/")),
            None
        );
        let redirect = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/\r\nContent-Length: 0\r\n\r\n"
        );
        let first = one_answer(redirect);
        assert_eq!(
            fetch(
                &["127.0.0.1", "localhost"],
                100,
                &format!("http://{first}/")
            ),
            None
        );
        assert_eq!(fetch(&["127.0.0.1"], 100, "file:///etc/hostname"), None);
    }
}
