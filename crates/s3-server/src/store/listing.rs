//! A page of a listing: keys in order, those with a common prefix as one entry.

use std::ops::Bound;

use super::failure::Failure;

/// Which keys, and how they are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Only keys that begin with this.
    pub(crate) prefix: String,
    /// Keys that have this after the prefix are shown as one entry, up to its first occurrence. Never empty.
    pub(crate) delimiter: Option<String>,
    /// Only entries after this one.
    pub(crate) after: Option<String>,
    /// Entries on a page.
    pub(crate) max: usize,
}

impl Query {
    /// The common prefix that stands for a key, if one does.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        Some(&key[..end])
    }

    /// Where the first entry can be.
    fn start(&self) -> Option<Bound<String>> {
        let Some(after) = self.after.as_deref().filter(|after| *after >= self.prefix.as_str()) else {
            return Some(Bound::Included(self.prefix.clone()));
        };
        match self.common_prefix(after) {
            Some(common) => successor(common).map(Bound::Included),
            None => Some(Bound::Excluded(after.to_owned())),
        }
    }
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry<T> {
    Key(String, T),
    CommonPrefix(String),
}

impl<T> Entry<T> {
    pub(crate) fn name(&self) -> &str {
        match self {
            Entry::Key(name, _) | Entry::CommonPrefix(name) => name,
        }
    }
}

/// Entries in order, and whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<Entry<T>>,
    pub(crate) truncated: bool,
}

/// Makes a page. `range` gives all keys from a bound on; it is asked again behind each common prefix, so that a page
/// costs what is on it, not what is behind it.
pub(crate) fn page<T, I: Iterator<Item = Result<(String, T), Failure>>>(
    query: &Query,
    mut range: impl FnMut(Bound<String>) -> Result<I, Failure>,
) -> Result<Page<T>, Failure> {
    let mut page = Page { entries: Vec::new(), truncated: false };
    let mut start = query.start();
    if query.max == 0 {
        return Ok(page);
    }
    while let Some(from) = start.take() {
        for found in range(from)? {
            let (key, value) = found?;
            if !key.starts_with(&query.prefix) {
                return Ok(page);
            }
            if page.entries.len() == query.max {
                page.truncated = true;
                return Ok(page);
            }
            if let Some(common) = query.common_prefix(&key) {
                page.entries.push(Entry::CommonPrefix(common.to_owned()));
                start = successor(common).map(Bound::Included);
                break;
            }
            page.entries.push(Entry::Key(key, value));
        }
    }
    Ok(page)
}

/// The first string after all those that begin with `prefix`; none if there is no such string.
fn successor(prefix: &str) -> Option<String> {
    let mut kept = prefix.to_owned();
    while let Some(last) = kept.pop() {
        // The range leaves out the surrogates, as strings do.
        if let Some(next) = (last..=char::MAX).nth(1) {
            kept.push(next);
            return Some(kept);
        }
    }
    None
}

pub(crate) fn borrowed(bound: &Bound<String>) -> Bound<&str> {
    bound.as_ref().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// What a page must be, without any cleverness.
    fn model(keys: &BTreeMap<String, u32>, query: &Query) -> Page<u32> {
        let mut entries: Vec<Entry<u32>> = Vec::new();
        let mut common = BTreeSet::new();
        for (key, value) in keys.iter().filter(|(key, _)| key.starts_with(&query.prefix)) {
            let rest = &key[query.prefix.len()..];
            let split = query.delimiter.as_ref().and_then(|delimiter| rest.split_once(delimiter.as_str()));
            match split {
                Some((name, _)) => {
                    let delimiter = query.delimiter.as_deref().unwrap_or_default();
                    let prefix = format!("{}{name}{delimiter}", query.prefix);
                    if common.insert(prefix.clone()) {
                        entries.push(Entry::CommonPrefix(prefix));
                    }
                }
                None => entries.push(Entry::Key(key.clone(), *value)),
            }
        }
        entries.sort_by(|a, b| a.name().as_bytes().cmp(b.name().as_bytes()));
        if let Some(after) = &query.after {
            entries.retain(|entry| entry.name() > after.as_str());
        }
        let truncated = query.max > 0 && entries.len() > query.max;
        entries.truncate(query.max);
        Page { entries, truncated }
    }

    fn paged(keys: &BTreeMap<String, u32>, query: &Query) -> Page<u32> {
        page(query, |from| {
            let range = keys.range::<str, _>((borrowed(&from), Bound::Unbounded));
            Ok(range.map(|(key, value)| Ok((key.clone(), *value))))
        })
        .unwrap()
    }

    /// Few letters, so that keys have much in common; among them the last character, and those about the surrogates.
    fn key() -> impl Strategy<Value = String> {
        let letter =
            prop::sample::select(vec!['a', 'b', '/', '/', '-', '\u{d7ff}', '\u{e000}', char::MAX, '\0']);
        prop::collection::vec(letter, 0..6).prop_map(String::from_iter)
    }

    fn delimiter() -> impl Strategy<Value = Option<String>> {
        let some = ["/", "-", "a/", "\u{d7ff}", "\u{10ffff}"].map(str::to_owned).to_vec();
        prop::option::of(prop::sample::select(some))
    }

    proptest! {
        #[test]
        fn a_page_is_what_the_model_says(
            keys in prop::collection::btree_map(key(), 0u32..100, 0..40),
            prefix in prop_oneof![Just(String::new()), key()],
            delimiter in delimiter(),
            after in prop::option::of(key()),
            max in 0usize..8,
        ) {
            let query = Query { prefix, delimiter, after, max };
            prop_assert_eq!(paged(&keys, &query), model(&keys, &query));
        }

        #[test]
        fn pages_together_are_the_whole_listing(
            keys in prop::collection::btree_map(key(), 0u32..100, 0..40),
            prefix in prop_oneof![Just(String::new()), key()],
            delimiter in delimiter(),
            max in 1usize..5,
        ) {
            let mut query = Query { prefix, delimiter, after: None, max: usize::MAX };
            let whole = paged(&keys, &query).entries;
            query.max = max;
            let mut together = Vec::new();
            loop {
                let page = paged(&keys, &query);
                prop_assert!(page.entries.len() == max || !page.truncated);
                together.extend(page.entries);
                query.after = together.last().map(|entry| entry.name().to_owned());
                if !page.truncated {
                    break;
                }
            }
            prop_assert_eq!(together, whole);
        }
    }

    #[test]
    fn keys_behind_a_common_prefix_are_not_visited() {
        let keys: BTreeMap<String, u32> = (0..10_000).map(|i| (format!("{}/{i}", i % 10), i)).collect();
        let query = Query { delimiter: Some("/".to_owned()), max: 1000, ..Query::default() };
        let mut visited = 0;
        let found = page(&query, |from| {
            let range = keys.range::<str, _>((borrowed(&from), Bound::Unbounded));
            visited += 1;
            Ok(range.map(|(key, value)| Ok((key.clone(), *value))))
        });
        assert_eq!(found.unwrap().entries.len(), 10);
        assert_eq!(visited, 11);
    }
}
