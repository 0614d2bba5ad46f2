//! Pictures from other machines, none of which is waited for for long.

use std::time::Duration;

use anyhow::{Result, bail};
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

use crate::args::PictureArgs;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connection: Duration,
    /// For the next byte.
    pub silence: Duration,
    /// For all of it.
    pub whole: Duration,
}

/// For a photograph on a slow line.
pub const PATIENCE: Patience = Patience {
    connection: Duration::from_secs(10),
    silence: Duration::from_secs(30),
    whole: Duration::from_secs(60),
};

/// The bytes at an address, at most `largest`. Redirects are followed, from one open address to others.
///
/// # Errors
/// When it cannot be had in time, or lies where nothing is to be fetched from.
pub fn fetch(url: &str, from: PictureArgs, patience: Patience, largest: u64) -> Result<Vec<u8>> {
    let settings = Agent::config_builder()
        .timeout_connect(Some(patience.connection))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .timeout_global(Some(patience.whole));
    let addresses = Addresses {
        is_private_allowed: from.allow_private_addresses,
        resolver: DefaultResolver::default(),
    };
    let settings = match from.allow_private_addresses {
        true => settings.build(),
        // Whom a proxy asks nobody sees from here.
        false => settings.proxy(None).build(),
    };
    let agent = Agent::with_parts(settings, DefaultConnector::default(), addresses);
    let got = agent.get(url).call().and_then(|mut answer| {
        let body = answer.body_mut().with_config().limit(largest);
        body.read_to_vec()
    });
    match got {
        Ok(bytes) => Ok(bytes),
        Err(Error::Other(refused)) if refused.is::<Private>() => bail!("{refused}"),
        Err(error) => Err(error.into()),
    }
}

/// An address that is none of the open net.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is on this machine or in a network of its own: say --allow-private-addresses to fetch from there"
)]
struct Private {
    host: String,
}

/// Finds the addresses of hosts. It is asked before every connection, those of redirects too, and what it
/// gives is what is connected to.
#[derive(Debug)]
struct Addresses {
    is_private_allowed: bool,
    resolver: DefaultResolver,
}

impl Resolver for Addresses {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let addresses = self.resolver.resolve(uri, config, timeout)?;
        match self.is_private_allowed || addresses.iter().all(|address| is_global(address.ip())) {
            true => Ok(addresses),
            false => Err(Error::Other(Box::new(Private {
                host: uri.host().unwrap_or_default().to_owned(),
            }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        thread,
        time::Instant,
    };

    use super::*;

    /// A server of one connection.
    fn server(answer: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            answer(stream);
        });
        address
    }

    fn quick(address: SocketAddr, is_private_allowed: bool) -> Result<Vec<u8>> {
        let patience = Patience {
            connection: Duration::from_millis(300),
            silence: Duration::from_millis(300),
            whole: Duration::from_millis(1000),
        };
        let from = PictureArgs {
            allow_private_addresses: is_private_allowed,
        };
        fetch(&format!("http://{address}/a.png"), from, patience, 100)
    }

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n";

    #[test]
    fn nothing_is_fetched_from_addresses_of_ones_own_unless_it_is_said() {
        let answering = || {
            server(|mut stream| {
                stream.write_all(HEAD).unwrap();
                stream.write_all(&[7; 50]).unwrap();
            })
        };
        assert_eq!(quick(answering(), true).unwrap(), [7; 50]);
        let refused = quick(answering(), false).unwrap_err().to_string();
        assert!(refused.contains("--allow-private-addresses"), "{refused}");
        // Names are looked up, and none of the forms of an address slips by.
        for host in [
            "localhost",
            "[::1]",
            "127.1",
            "0x7f000001",
            "[::ffff:127.0.0.1]",
        ] {
            let url = format!("http://{host}:9/");
            let error = fetch(&url, PictureArgs::default(), PATIENCE, 100).unwrap_err();
            let error = error.to_string();
            assert!(!error.contains("refused"), "{host}: {error}");
        }
    }

    #[test]
    fn a_server_that_is_silent_stops_or_drips_is_not_waited_for() {
        let pause = Duration::from_millis(100);
        for (most, what, server) in [
            (
                900,
                "says nothing",
                server(move |_stream| thread::sleep(20 * pause)),
            ),
            (
                900,
                "stops in the middle",
                server(move |mut stream| {
                    stream.write_all(HEAD).unwrap();
                    stream.write_all(&[7; 9]).unwrap();
                    thread::sleep(20 * pause);
                }),
            ),
            (
                2500,
                "drips",
                server(move |mut stream| {
                    stream.write_all(HEAD).unwrap();
                    for _ in 0..50 {
                        let _ = stream.write_all(&[7]);
                        thread::sleep(pause);
                    }
                }),
            ),
        ] {
            let start = Instant::now();
            assert!(quick(server, true).is_err(), "{what}");
            let took = start.elapsed();
            assert!(took < Duration::from_millis(most), "{what}: {took:?}");
        }
    }
}
