//! The suite that `object_store` holds its stores to, against a server that listens.

mod server;

use object_store::aws::{Checksum, S3CopyIfNotExists};
use object_store::integration as suite;
use server::Running;

const BUCKET: &str = "conformance";

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_listings_conform() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let store = running.builder(BUCKET).with_disable_tagging(true).build().unwrap();
    suite::put_get_delete_list(&store).await;
    suite::list_with_offset_exclusivity(&store).await;
    suite::get_opts(&store).await;
    suite::list_uses_directories_correctly(&store).await;
    suite::list_with_delimiter(&store).await;
    suite::rename_and_copy(&store).await;
    suite::put_get_attributes(&store).await;
    suite::list_paginated(&store, &store).await;
    suite::put_opts(&store, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_parts_conform() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let store =
        running.builder(BUCKET).with_copy_if_not_exists(S3CopyIfNotExists::Multipart).build().unwrap();
    suite::stream_get(&store).await;
    suite::multipart(&store, &store).await;
    suite::multipart_with_opts(&store, &store).await;
    suite::multipart_put_part_out_of_order(&store, &store).await;
    suite::multipart_race_condition(&store, true).await;
    suite::multipart_out_of_order(&store).await;
    suite::copy_if_not_exists(&store).await;
    suite::copy_rename_nonexistent_object(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_and_unsigned_payloads_conform() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let unsigned = running.builder(BUCKET).with_unsigned_payload(true).build().unwrap();
    suite::put_get_delete_list(&unsigned).await;
    let summed = running.builder(BUCKET).with_checksum_algorithm(Checksum::SHA256).build().unwrap();
    suite::put_get_delete_list(&summed).await;
    suite::multipart(&summed, &summed).await;
}
