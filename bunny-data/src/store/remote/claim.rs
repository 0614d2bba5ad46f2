//! One driver at a time: an object that its holder renews.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path as Location;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
};

use super::{Remote, generic, one_line};
use crate::error::Result;
use crate::store::{Claim, DRIVER_CLAIM, WORK};

/// A claim that was not renewed for so long is that of a driver that was killed.
const LEASE: Duration = Duration::from_secs(60);

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(15);

/// Times that a claim is put, and looked for, before its absence counts as a failure.
const TRIES: usize = 5;

/// Claims the work files of `remote`; `None` where another driver that is alive has them.
pub(super) fn held(remote: &Remote) -> Result<Option<Claim>> {
    let location = remote.locate(WORK)?.join(DRIVER_CLAIM);
    let own = own_word();
    let claimed = claim(remote.objects.clone(), location.clone(), own.clone(), LEASE);
    let claimed = remote.wait(WORK, "claim", claimed)?;
    Ok(claimed.map(|renewed| -> Claim {
        Box::new(Held {
            remote: remote.clone(),
            renewed: remote.runtime.spawn(renewed),
            location,
            own,
        })
    }))
}

/// What tells a claim from all others.
fn own_word() -> String {
    static CLAIMS: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    format!(
        "{}-{}-{}",
        std::process::id(),
        CLAIMS.fetch_add(1, Relaxed),
        time.unwrap_or_default().as_nanos()
    )
}

/// A claim that is renewed until it is dropped.
struct Held {
    remote: Remote,
    renewed: tokio::task::JoinHandle<()>,
    location: Location,
    own: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewed.abort();
        let objects = &self.remote.objects;
        // One that stays is taken for dead in a minute.
        self.remote.runtime.block_on(async {
            if let Ok(Seen::Own(_)) = look(objects, &self.location, &self.own).await {
                let _ = objects.delete(&self.location).await;
            }
        });
    }
}

/// Whose claim is there.
enum Seen {
    Own(UpdateVersion),
    Another(ObjectMeta),
    None,
}

async fn look(
    objects: &Arc<dyn ObjectStore>,
    location: &Location,
    own: &str,
) -> object_store::Result<Seen> {
    let found = match objects.get(location).await {
        Err(Error::NotFound { .. }) => return Ok(Seen::None),
        found => found?,
    };
    let meta = found.meta.clone();
    Ok(match found.bytes().await? == own.as_bytes() {
        true => Seen::Own(version(meta)),
        false => Seen::Another(meta),
    })
}

fn version(meta: ObjectMeta) -> UpdateVersion {
    UpdateVersion {
        e_tag: meta.e_tag,
        version: meta.version,
    }
}

/// Puts a claim; whether it is there afterwards is another question, since a server may lose what it
/// says to have, and have what it says to have lost.
async fn put(
    objects: &Arc<dyn ObjectStore>,
    location: &Location,
    own: &str,
    mode: PutMode,
) -> object_store::Result<()> {
    let text = PutPayload::from(own.to_owned().into_bytes());
    match objects.put_opts(location, text, mode.into()).await {
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// How long ago a claim was renewed, by the server's clock.
async fn age(
    objects: &Arc<dyn ObjectStore>,
    location: &Location,
    held: &ObjectMeta,
) -> object_store::Result<Duration> {
    let probe = location.clone().join("now");
    for _ in 0..TRIES {
        objects.put(&probe, PutPayload::new()).await?;
        match objects.head(&probe).await {
            Err(Error::NotFound { .. }) => {}
            found => {
                let now = found?.last_modified;
                objects.delete(&probe).await?;
                return Ok((now - held.last_modified).to_std().unwrap_or_default());
            }
        }
    }
    Err(lost())
}

fn lost() -> Error {
    generic("the server has lost the claim each time it was put")
}

/// Puts a claim where there is none, or one of a dead driver; what renews it, or `None` where another
/// driver is alive.
async fn claim(
    objects: Arc<dyn ObjectStore>,
    location: Location,
    own: String,
    lease: Duration,
) -> object_store::Result<Option<impl Future<Output = ()> + Send + use<>>> {
    let mut mode = PutMode::Create;
    for _ in 0..TRIES {
        put(&objects, &location, &own, mode).await?;
        mode = match look(&objects, &location, &own).await? {
            Seen::Own(version) => return Ok(Some(renew(objects, location, own, version))),
            Seen::None => PutMode::Create,
            Seen::Another(held) => {
                if age(&objects, &location, &held).await? < lease {
                    return Ok(None);
                }
                PutMode::Update(version(held))
            }
        };
    }
    Err(lost())
}

async fn renew(
    objects: Arc<dyn ObjectStore>,
    location: Location,
    own: String,
    mut version: UpdateVersion,
) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let mode = PutMode::Update(version.clone());
        let seen = match put(&objects, &location, &own, mode).await {
            Ok(()) => look(&objects, &location, &own).await,
            Err(error) => Err(error),
        };
        match seen {
            Ok(Seen::Own(renewed)) => version = renewed,
            Ok(_) => tracing::warn!("the claim of the work files is there no more"),
            Err(error) => tracing::warn!("the claim of the work files: {}", one_line(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::remote;
    use super::*;
    use crate::store::Store;

    #[test]
    fn one_driver_holds_the_work_files_until_it_ends_or_is_taken_for_dead() {
        let dir = tempfile::tempdir().unwrap();
        let store = remote(dir.path());
        let first = store.claim().unwrap();
        assert!(first.is_some());
        assert!(store.claim().unwrap().is_none());
        drop(first);
        let second = store.claim().unwrap();
        assert!(second.is_some());
        // As after a kill: nobody renews it.
        let location = store.locate(WORK).unwrap().join(DRIVER_CLAIM);
        let taken = claim(
            store.objects.clone(),
            location.clone(),
            own_word(),
            Duration::ZERO,
        );
        assert!(store.runtime.block_on(taken).unwrap().is_some());
        // What another has taken is the other's.
        drop(second);
        assert_eq!(store.entries(WORK).unwrap().len(), 1);
    }
}
