//! object_store's own suite, on a small cluster of fakes, and on a running one if GRISTMILL_TEST_MASTER names its
//! master. The suite wants an empty store: each part gets a directory of its own.

mod fakes;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fakes::FakeCluster;
use futures::StreamExt;
use gristmill_dfs::DfsStore;
use gristmill_dfs::client::{ClientOptions, DfsClient};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, integration};

/// What makes stores: a cluster, if it is of this process, and the client.
struct Stores {
    client: DfsClient,
    _cluster: Option<FakeCluster>,
}

impl Stores {
    fn fake() -> Stores {
        let cluster = FakeCluster::start(2);
        Stores { client: cluster.client(), _cluster: Some(cluster) }
    }

    /// Of the cluster that the environment names.
    fn running() -> Option<Stores> {
        let master = std::env::var("GRISTMILL_TEST_MASTER").ok()?;
        let client = DfsClient::connect(ClientOptions::new(master)).expect("the cluster is up");
        Some(Stores { client, _cluster: None })
    }

    /// An empty one.
    fn store(&self) -> DfsStore {
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let root = format!("/conformance/{}-{number}", self.client.id());
        DfsStore::below(self.client.clone(), &root)
    }

    fn all() -> Vec<Stores> {
        std::iter::once(Stores::fake()).chain(Stores::running()).collect()
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future);
}

#[test]
fn objects_are_put_got_listed_and_deleted() {
    for stores in Stores::all() {
        block_on(async {
            integration::put_get_delete_list(&stores.store()).await;
            integration::put_get_attributes(&stores.store()).await;
            integration::get_opts(&stores.store()).await;
            let missing = integration::get_nonexistent_object(&stores.store(), None).await;
            assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
        });
    }
}

#[test]
fn puts_are_conditional() {
    for stores in Stores::all() {
        block_on(integration::put_opts(&stores.store(), true));
    }
}

#[test]
fn listings_follow_paths() {
    for stores in Stores::all() {
        block_on(async {
            integration::list_uses_directories_correctly(&stores.store()).await;
            integration::list_with_delimiter(&stores.store()).await;
            integration::list_with_offset_exclusivity(&stores.store()).await;
        });
    }
}

#[test]
fn objects_are_copied_and_renamed() {
    for stores in Stores::all() {
        block_on(async {
            integration::rename_and_copy(&stores.store()).await;
            integration::copy_if_not_exists(&stores.store()).await;
            integration::copy_rename_nonexistent_object(&stores.store()).await;
        });
    }
}

#[test]
fn objects_come_in_parts() {
    for stores in Stores::all() {
        block_on(async {
            integration::stream_get(&stores.store()).await;
            integration::multipart_out_of_order(&stores.store()).await;
            integration::multipart_race_condition(&stores.store(), true).await;
            let store = stores.store();
            integration::multipart(&store, &store).await;
            integration::multipart_put_part_out_of_order(&store, &store).await;
        });
    }
}

#[test]
fn a_listing_is_sorted_by_path_and_shows_no_empty_directory() {
    let stores = Stores::fake();
    let store = stores.store();
    block_on(async {
        let names = ["a b/x", "a!", "a/x", "a/b/c", "a/b c", "a0", "a", "z/y/x", "b", "a0/x/y"];
        for name in names.into_iter().filter(|name| *name != "a" && *name != "a0") {
            store.put(&Path::from(name), "bytes".into()).await.expect("put");
        }
        let gone = Path::from("gone/below/this");
        store.put(&gone, "bytes".into()).await.expect("put");
        store.delete(&gone).await.expect("deleted");
        let found: Vec<String> =
            store.list(None).map(|meta| meta.expect("an object").location.to_string()).collect().await;
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(found, sorted);
        assert_eq!(found.len(), names.len() - 2);
        let top = store.list_with_delimiter(None).await.expect("listed");
        let prefixes: Vec<String> = top.common_prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["a", "a b", "a0", "z"], "neither the empty ones nor the hidden one");
        assert!(matches!(store.delete(&Path::from("a")).await, Err(Error::NotFound { .. })));
        assert_eq!(store.list(None).count().await, found.len(), "a directory is no object to delete");
    });
}

#[test]
fn an_empty_directory_gives_way_to_an_object_and_a_full_one_does_not() {
    let stores = Stores::fake();
    let store = stores.store();
    block_on(async {
        let below = Path::from("a/b/c");
        for mode in [PutMode::Create, PutMode::Overwrite] {
            store.put(&below, "bytes".into()).await.expect("put");
            let refused = store.put_opts(&Path::from("a/b"), "bytes".into(), mode.clone().into()).await;
            assert!(refused.is_err(), "{mode:?}: an object is below");
            assert!(store.head(&below).await.is_ok());
            store.delete(&below).await.expect("deleted");
            store.put_opts(&Path::from("a/b"), "bytes".into(), mode.clone().into()).await.expect("put");
            assert_eq!(store.head(&Path::from("a/b")).await.expect("there").size, 5, "{mode:?}");
            store.delete(&Path::from("a/b")).await.expect("deleted");
        }
    });
}

#[test]
fn an_object_of_many_pieces_streams_back() {
    let stores = Stores::fake();
    let store = stores.store();
    let bytes = fakes::content(10_000_000);
    block_on(async {
        let location = Path::from("large");
        let pieces: PutPayload = bytes.chunks(333_333).map(Bytes::copy_from_slice).collect();
        store.put(&location, pieces).await.expect("put");
        let read = store.get(&location).await.expect("got").bytes().await.expect("read");
        assert!(read == bytes);
        let middle = store.get_range(&location, 3_999_999..6_000_001).await.expect("got");
        assert!(middle == bytes[3_999_999..6_000_001]);
        let many = store.get_ranges(&location, &[0..10, 9_999_990..10_000_000, 5..15]).await.expect("got");
        assert!(many[0] == bytes[..10] && many[1] == bytes[9_999_990..] && many[2] == bytes[5..15]);
    });
}

#[test]
fn an_upload_that_is_dropped_leaves_nothing() {
    let cluster = FakeCluster::start(1);
    let store = DfsStore::new(cluster.client());
    block_on(async {
        let location = Path::from("never");
        let mut upload = store.put_multipart(&location).await.expect("begun");
        upload.put_part("some".into()).await.expect("a part");
        let unfinished = upload.put_part("more".into());
        let error = upload.complete().await.expect_err("a part is missing");
        assert!(error.to_string().contains("not all of 2 parts"), "{error}");
        drop((unfinished, upload));
        fakes::eventually("the parts are deleted", || {
            let seen = cluster.master.seen();
            seen.namespace.nodes.keys().all(|path| path == "/" || path == "/.uploads")
        });
    });
}

#[test]
fn ids_of_uploads_are_no_paths() {
    let stores = Stores::fake();
    let store = stores.store();
    block_on(async {
        let location = Path::from("object");
        for id in ["", "..", "a/b", "../../etc"] {
            let error = store.abort_multipart(&location, &id.to_owned()).await.expect_err("no id");
            assert!(error.to_string().contains("is no id"), "{error}");
        }
        let id = store.create_multipart(&location).await.expect("begun");
        let part = PartId { content_id: "../../../secret".to_owned() };
        let error = store.complete_multipart(&location, &id, vec![part]).await.expect_err("no part");
        assert!(error.to_string().contains("is no id"), "{error}");
    });
}
