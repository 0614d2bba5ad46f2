//! One driver at a time: an object that its holder renews.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};

use super::{Remote, one_line};
use crate::error::Result;
use crate::store::{Claim, DRIVER_CLAIM, WORK};

/// A claim that was not renewed for so long is that of a driver that was killed.
const LEASE: Duration = Duration::from_secs(60);

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(15);

/// Claims the work files of `remote`; `None` where another driver that is alive has them.
pub(super) fn held(remote: &Remote) -> Result<Option<Claim>> {
    let location = remote.locate(WORK)?.join(DRIVER_CLAIM);
    let claimed = claim(remote.objects.clone(), location.clone(), LEASE);
    let claimed = remote.wait(WORK, "claim", claimed)?;
    Ok(claimed.map(|renewed| -> Claim {
        Box::new(Held {
            remote: remote.clone(),
            renewed: remote.runtime.spawn(renewed),
            location,
        })
    }))
}

/// A claim that is renewed until it is dropped.
struct Held {
    remote: Remote,
    renewed: tokio::task::JoinHandle<()>,
    location: Location,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewed.abort();
        let removed = self.remote.objects.delete(&self.location);
        // One that stays is taken for dead in a minute.
        let _ = self.remote.runtime.block_on(removed);
    }
}

/// Puts a claim where there is none, or one of a dead driver; what renews it, or `None` where another
/// driver is alive. All times are the server's.
async fn claim(
    objects: Arc<dyn ObjectStore>,
    location: Location,
    lease: Duration,
) -> object_store::Result<Option<impl Future<Output = ()> + Send + use<>>> {
    use object_store::Error;
    let own = std::process::id().to_string();
    let text = || PutPayload::from(own.clone().into_bytes());
    let first = objects
        .put_opts(&location, text(), PutMode::Create.into())
        .await;
    let put = match first {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            let held = objects.head(&location).await?;
            let probe = location.clone().join("now");
            objects.put(&probe, text()).await?;
            let now = objects.head(&probe).await?.last_modified;
            objects.delete(&probe).await?;
            let age = (now - held.last_modified).to_std().unwrap_or_default();
            if age < lease {
                return Ok(None);
            }
            let seen = UpdateVersion {
                e_tag: held.e_tag,
                version: held.version,
            };
            match objects
                .put_opts(&location, text(), PutMode::Update(seen).into())
                .await
            {
                // Another one was quicker.
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => return Ok(None),
                put => put?,
            }
        }
        put => put?,
    };
    let mut version = UpdateVersion::from(put);
    Ok(Some(async move {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let text = std::process::id().to_string().into_bytes().into();
            let mode = PutMode::Update(version.clone());
            match objects.put_opts(&location, text, mode.into()).await {
                Ok(put) => version = put.into(),
                Err(error) => tracing::warn!("the claim of the work files: {}", one_line(&error)),
            }
        }
    }))
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
        let taken = claim(store.objects.clone(), location.clone(), Duration::ZERO);
        assert!(store.runtime.block_on(taken).unwrap().is_some());
        drop(second);
        assert!(store.entries(WORK).unwrap().is_empty());
    }
}
