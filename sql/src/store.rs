//! The only object store a query can reach: our storage root.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use object_store::ObjectStore;
use url::Url;

/// A registry with one entry that cannot be changed. DataFusion's own would open any local path.
#[derive(Debug)]
pub(crate) struct LockedRegistry {
    url: ObjectStoreUrl,
    objects: Arc<dyn ObjectStore>,
}

impl LockedRegistry {
    /// `objects` has paths relative to the storage root.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> Result<Self> {
        Ok(Self { url: ObjectStoreUrl::parse("highwater://storage/")?, objects })
    }

    /// The URL under which plans name it.
    pub(crate) fn url(&self) -> &ObjectStoreUrl {
        &self.url
    }
}

impl ObjectStoreRegistry for LockedRegistry {
    fn register_store(&self, url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        tracing::error!(%url, "refused to register an object store with the SQL engine");
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let own: &Url = self.url.as_ref();
        if url.scheme() == own.scheme() && url.host_str() == own.host_str() {
            return Ok(Arc::clone(&self.objects));
        }
        Err(DataFusionError::Plan(format!("{url} is outside the storage root: queries read tables only")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn only_the_storage_root_is_reachable() {
        let registry = LockedRegistry::new(Arc::new(InMemory::new())).unwrap();
        assert!(registry.get_store(registry.url().as_ref()).is_ok());
        for outside in ["file:///etc/passwd", "s3://bucket/key", "http://host/x", "highwater://other/"] {
            let url = Url::parse(outside).unwrap();
            registry.register_store(&url, Arc::new(InMemory::new()));
            let error = registry.get_store(&url).unwrap_err().to_string();
            assert!(error.contains("outside the storage root"), "{error}");
        }
    }
}
