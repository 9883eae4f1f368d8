//! LoRA adapters: the ones that are served, and how clients change them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use fireside_engine::{Engine, Executor};
use fireside_model::Lora;
use fireside_openai::{ApiError, ErrorKind};
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::app::App;
use crate::worker::{Shared, Task};

type Read = dyn Fn(&Path) -> Result<Lora, String> + Send + Sync;

/// Reads LoRA adapters for the model from folders.
#[derive(Clone)]
pub struct LoraReader(Arc<Read>);

impl LoraReader {
    /// A reader; its error is one line for people.
    pub fn new(read: impl Fn(&Path) -> Result<Lora, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for LoraReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoraReader")
    }
}

/// An adapter that is served.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: Arc<str>,
    pub(crate) lora: Arc<Lora>,
}

/// What is to become of an adapter.
#[derive(Debug)]
pub(crate) enum Change {
    Add(Served),
    Remove(String),
}

/// A change for the engine's thread.
#[derive(Debug)]
pub(crate) struct LoraTask {
    pub(crate) change: Change,
    pub(crate) reply: oneshot::Sender<Result<(), ApiError>>,
    /// Given back once the change is made or refused, whether or not who asked still waits.
    pub(crate) turn: Turn,
}

/// The right to change adapters: there is one, as there is one place for it in the channel.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// Gives an engine the adapters that were served before it was built again. Of the first engine those that it
/// has are served.
pub(crate) fn restore<E: Executor>(engine: &mut Engine<E>, shared: &Shared) {
    let before = all(shared).into_iter();
    let named: Vec<_> = before.map(|own| (own.name, own.lora)).collect();
    if !named.is_empty()
        && let Err(error) = engine.set_loras(named)
    {
        tracing::error!(%error, "the LoRA adapters are not served any more");
    }
    tell(engine, shared);
}

/// Makes a change, and tells it to who asked.
pub(crate) fn change<E: Executor>(engine: &mut Engine<E>, task: LoraTask, shared: &Shared) {
    let done = match task.change {
        Change::Add(served) => engine.add_lora(&served.name, served.lora),
        Change::Remove(name) => engine.remove_lora(&name),
    };
    tell(engine, shared);
    drop(task.turn);
    // Who asked may have left.
    let _ = task.reply.send(done.map_err(ApiError::from));
}

fn tell<E: Executor>(engine: &Engine<E>, shared: &Shared) {
    let served = engine.loras().map(|(name, lora)| Served {
        name: name.into(),
        lora: Arc::clone(lora),
    });
    let place = shared.loras.write();
    *place.unwrap_or_else(PoisonError::into_inner) = served.collect();
}

/// The adapters that are served.
fn all(shared: &Shared) -> Vec<Served> {
    let all = shared.loras.read();
    all.unwrap_or_else(PoisonError::into_inner).clone()
}

impl App {
    /// The adapters that are served.
    pub(crate) fn loras(&self) -> Vec<Served> {
        all(&self.shared)
    }

    /// The adapter of a name.
    pub(crate) fn lora(&self, name: &str) -> Option<Arc<str>> {
        let all = self.loras();
        let own = all.into_iter().find(|served| *served.name == *name);
        own.map(|served| served.name)
    }

    /// Reads an adapter and serves it under a name.
    ///
    /// # Errors
    ///
    /// Clients may not, the name is taken, there is no such adapter, or it is not for this model.
    pub(crate) async fn add_lora(&self, name: String, path: String) -> Result<(), ApiError> {
        let facts = self.facts()?;
        let reader = facts.lora_reader.clone();
        let root = self.options.lora_root.clone();
        let (Some(root), Some(reader)) = (root, reader) else {
            return Err(ApiError::new(
                ErrorKind::Forbidden,
                "clients may not load LoRA adapters; start the server with --lora-root FOLDER",
            ));
        };
        if name.is_empty() || name.len() > MAX_NAME || self.options.serves(&name) {
            return Err(ApiError::invalid(
                "lora_name",
                format!(
                    "lora_name is {:?}; expected a name of up to {MAX_NAME} bytes that is not the model's",
                    name.chars().take(80).collect::<String>()
                ),
            ));
        }
        let wrong = |message| ApiError::invalid("lora_path", message);
        // One adapter at a time is in memory beside those that are served, and none that cannot be.
        let turn = Arc::clone(&self.lora_turn).lock_owned().await;
        if self.lora(&name).is_some() {
            let message =
                format!("lora_name is {name:?}; expected a name that no other adapter has");
            return Err(ApiError::invalid("lora_name", message));
        }
        let (most, served) = (facts.max_loras, self.loras().len());
        if served >= most {
            let message =
                format!("{served} LoRA adapters are loaded, as many as may be; unload one first");
            return Err(ApiError::invalid("lora_name", message));
        }
        let lora = tokio::task::spawn_blocking(move || {
            let folder = inside(&root, &path)?;
            let lora = reader.0(&folder).map_err(|error| {
                // Where the server keeps it is not the client's to know.
                let error = error.replace(&*folder.to_string_lossy(), &path);
                format!("lora_path: {error}")
            });
            lora.map(|lora| (lora, turn))
        });
        let (lora, turn) = match lora.await {
            Ok(read) => read.map_err(wrong)?,
            Err(_) => return Err(wrong("lora_path: reading the adapter panicked".into())),
        };
        let (name, lora) = (name.into(), Arc::new(lora));
        self.change_loras(Change::Add(Served { name, lora }), turn)
            .await
    }

    /// Serves an adapter no longer.
    ///
    /// # Errors
    ///
    /// Clients may not, there is none of that name, or a request has it.
    pub(crate) async fn remove_lora(&self, name: String) -> Result<(), ApiError> {
        self.facts()?;
        if self.options.lora_root.is_none() {
            return Err(ApiError::new(
                ErrorKind::Forbidden,
                "clients may not unload LoRA adapters; start the server with --lora-root FOLDER",
            ));
        }
        let turn = Arc::clone(&self.lora_turn).lock_owned().await;
        self.change_loras(Change::Remove(name), turn).await
    }

    async fn change_loras(&self, change: Change, turn: Turn) -> Result<(), ApiError> {
        let (reply, outcome) = oneshot::channel();
        let ended = || {
            let open = self.shared.status.open().err();
            let ended = || ApiError::new(ErrorKind::Unavailable, "the engine has ended");
            open.unwrap_or_else(ended)
        };
        let task = Task::Lora(LoraTask {
            change,
            reply,
            turn,
        });
        self.tasks()?.try_send(task).map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

/// Most bytes of an adapter's name.
const MAX_NAME: usize = 256;

/// The folder that a client means, which must lie in the one that it may read from.
fn inside(root: &Path, path: &str) -> Result<PathBuf, String> {
    let shown: String = path.chars().take(200).collect();
    let refused =
        || format!("lora_path is {shown:?}; expected a folder in the server's --lora-root");
    // An absolute path stands for itself.
    let folder = root.join(path).canonicalize().map_err(|_| refused())?;
    let root = root
        .canonicalize()
        .map_err(|e| format!("the server's --lora-root: {e}"))?;
    if folder.starts_with(&root) && folder.is_dir() {
        Ok(folder)
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_reach_folders_in_the_root_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("fireside-lora-root-{}", std::process::id()));
        std::fs::create_dir_all(root.join("own/one")).unwrap();
        std::fs::create_dir_all(root.join("other")).unwrap();
        std::fs::write(root.join("own/file"), "").unwrap();
        let own = root.join("own");
        let one = own.join("one").canonicalize().unwrap();
        assert_eq!(inside(&own, "one"), Ok(one.clone()));
        assert_eq!(inside(&own, &one.to_string_lossy()), Ok(one));
        for path in ["../other", "/etc", "none", "file", "one/../../other"] {
            let error = inside(&own, path).unwrap_err();
            assert!(error.starts_with("lora_path is "), "{error}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
