//! How requests to S3 fail.

use std::io;

use object_store::Error;

use crate::file_system::Cause;

/// A request that failed. Its text has neither keys nor signatures.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.source))]
pub struct S3Error {
    /// What the client says.
    // Not `#[source]`: its own text is that of the server, which may repeat what was signed.
    source: Error,
}

impl S3Error {
    /// Whether another try may go better: nobody answered, or the server was not able to.
    pub fn may_pass(&self) -> bool {
        matches!(self.source, Error::Generic { .. } | Error::JoinError { .. })
    }

    /// What is there is not what this program writes.
    pub(super) fn damaged(error: &dyn std::error::Error) -> S3Error {
        Error::NotSupported { source: error.to_string().into() }.into()
    }

    /// Whether nothing has that name.
    pub fn is_absence(&self) -> bool {
        matches!(self.source, Error::NotFound { .. })
    }

    /// Whether what was to be there, or not to be there, is not as it was to be.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.source, Error::AlreadyExists { .. } | Error::Precondition { .. })
    }
}

impl From<Error> for S3Error {
    fn from(source: Error) -> S3Error {
        S3Error { source }
    }
}

impl From<Error> for Cause {
    fn from(source: Error) -> Cause {
        S3Error { source }.into()
    }
}

impl From<S3Error> for Cause {
    fn from(error: S3Error) -> Cause {
        match &error.source {
            Error::NotFound { .. } if !told(&error.source).contains("NoSuchBucket") => Cause::NotFound,
            Error::AlreadyExists { .. } => Cause::AlreadyExists,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Cause::PermissionDenied(told(&error.source))
            }
            Error::InvalidPath { source } => Cause::InvalidName(source.to_string()),
            _ => Cause::S3(Box::new(error)),
        }
    }
}

impl From<S3Error> for io::Error {
    fn from(error: S3Error) -> io::Error {
        let kind = match &error.source {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// What a client says, without the names of its layers and without the XML of the server but its code and message:
/// S3 repeats the key's id and what was signed when a signature is wrong.
fn told(error: &Error) -> String {
    let mut said = error.to_string();
    // The bottom of the chain says it best; those above repeat it.
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said = cause.to_string();
        source = cause.source();
    }
    for prefix in ["Generic S3 error: ", "HTTP error: "] {
        said = said.strip_prefix(prefix).map(str::to_owned).unwrap_or(said);
    }
    without_xml(&without_query(&said))
}

/// Everything from the first `<` on gives way to the code and the message in it.
fn without_xml(text: &str) -> String {
    let Some(start) = text.find('<') else { return text.to_owned() };
    let element = |name: &str| {
        let from = text.find(&format!("<{name}>"))? + name.len() + 2;
        let to = from + text[from..].find(&format!("</{name}>"))?;
        Some(text[from..to].to_owned())
    };
    let parts: Vec<String> = ["Code", "Message"].into_iter().filter_map(element).collect();
    format!("{}{}", &text[..start], parts.join(": ")).trim_end_matches([' ', ':']).to_owned()
}

/// Without what follows `?` in a URL: it may be a signature.
fn without_query(text: &str) -> String {
    let Some(at) = text.find("X-Amz-") else { return text.to_owned() };
    let start = text[..at].rfind('?').unwrap_or(at);
    let end = text[at..].find([' ', ')', '"', '\n']).map_or(text.len(), |end| at + end);
    format!("{}{}", &text[..start], without_query(&text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_not_repeated() {
        let body = "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>No \
                    match</Message><AWSAccessKeyId>AKIA1</AWSAccessKeyId><StringToSign>s3cret</StringToSign></Error>";
        let error = Error::Generic { store: "S3", source: body.into() };
        assert_eq!(S3Error::from(error).to_string(), "403 Forbidden: SignatureDoesNotMatch: No match");
        let url = "no answer from http://h/b/k?X-Amz-Date=1&X-Amz-Signature=2 (twice: http://h/?a=b&X-Amz-Security-Token=3)";
        let error = Error::Generic { store: "S3", source: url.into() };
        assert_eq!(S3Error::from(error).to_string(), "no answer from http://h/b/k (twice: http://h/)");
    }
}
