//! Errors as people, and other processes, are told of them: one sentence, from what failed to its last cause.

use std::error::Error;

/// An error and its causes, each said once: some errors say their cause themselves.
pub fn sentence(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// What was `said` already, and what led to it.
pub fn with_causes(said: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    let mut sentence = said;
    while let Some(error) = cause {
        let text = error.to_string();
        if sentence.is_empty() {
            sentence = text;
        } else if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}

/// The beginning of a sentence that must fit into so many bytes, for a frame or a record. It ends between two letters.
pub fn cut(mut sentence: String, bytes_max: usize) -> String {
    if sentence.len() > bytes_max {
        sentence.truncate(sentence.floor_char_boundary(bytes_max.saturating_sub(ELLIPSIS.len())));
        sentence.push_str(ELLIPSIS);
    }
    sentence
}

const ELLIPSIS: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let full = Told("the disk is full", None);
        let write = Told("cannot write: the disk is full", Some(Box::new(full)));
        let job = Told("the job failed", Some(Box::new(write)));
        assert_eq!(sentence(&job), "the job failed: cannot write: the disk is full");
        assert_eq!(with_causes(String::new(), Some(&job)), sentence(&job));
    }

    #[test]
    fn a_long_sentence_is_cut_between_letters() {
        assert_eq!(cut("short".to_owned(), 5), "short");
        let long = cut("é".repeat(1000), 1000);
        assert!(long.len() <= 1000 && long.ends_with("é..."), "{}", long.len());
    }
}
