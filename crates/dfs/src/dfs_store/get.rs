//! Reading objects.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use gristmill_proto::namespace::Entry;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, GetResultPayload, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta,
    Result, coalesce_ranges,
};

use super::DfsStore;
use super::object::{about, generic, not_found, not_implemented};
use crate::client::FileReader;

/// One piece of a stream. Longer ranges are read ahead, block by block.
const PIECE_BYTES: u64 = 1 << 20;

impl DfsStore {
    pub(super) async fn get(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(not_implemented("versions of objects"));
        }
        let path = self.path_of(location);
        if options.head {
            let entry = self.client.stat_async(&path).await.map_err(about(location))?;
            let meta = self.object(&entry, location)?;
            options.check_preconditions(&meta)?;
            let range = 0..meta.size;
            return Ok(result(meta, range, stream::empty().boxed()));
        }
        let reader = self.client.open_async(&path).await.map_err(about(location))?;
        let meta = self.object(reader.entry(), location)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let payload = self.clone().stream(reader, range.clone(), location.clone());
        Ok(result(meta, range, payload))
    }

    /// Many ranges of one object: it is located once, and near ranges are read as one.
    pub(super) async fn get_many(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = self.path_of(location);
        let reader = self.client.open_async(&path).await.map_err(about(location))?;
        let size = self.object(reader.entry(), location)?.size;
        let reader = Arc::new(reader);
        let fetch = |range: Range<u64>| {
            let (store, reader) = (self.clone(), reader.clone());
            async move {
                let range = GetRange::Bounded(range).as_range(size).map_err(generic)?;
                let read = store.blocking(move |_| {
                    let mut buffer = vec![0; (range.end - range.start) as usize];
                    reader.read_at(&mut buffer, range.start)?;
                    Ok(Bytes::from(buffer))
                });
                read.await.map_err(about(location))
            }
        };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn object(&self, entry: &Entry, location: &Path) -> Result<ObjectMeta> {
        if entry.is_directory {
            return Err(not_found(location));
        }
        let meta = self.meta_of(entry)?;
        Ok(ObjectMeta { location: location.clone(), ..meta })
    }

    /// The pieces of a range, each read when it is asked for.
    fn stream(
        self,
        mut reader: FileReader,
        range: Range<u64>,
        location: Path,
    ) -> BoxStream<'static, Result<Bytes>> {
        reader.confine(range.clone());
        stream::try_unfold(
            (self, reader, range, location),
            |(store, mut reader, range, location)| async move {
                if range.is_empty() {
                    return Ok::<_, Error>(None);
                }
                let bytes = PIECE_BYTES.min(range.end - range.start);
                let read = store.blocking(move |_| {
                    let mut piece = vec![0; bytes as usize];
                    reader.read_piece(&mut piece)?;
                    Ok((reader, Bytes::from(piece)))
                });
                let (reader, piece) = read.await.map_err(about(&location))?;
                let rest = range.start + bytes..range.end;
                Ok(Some((piece, (store, reader, rest, location))))
            },
        )
        .boxed()
    }
}

fn result(meta: ObjectMeta, range: Range<u64>, payload: BoxStream<'static, Result<Bytes>>) -> GetResult {
    GetResult {
        payload: GetResultPayload::Stream(payload),
        meta,
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    }
}
