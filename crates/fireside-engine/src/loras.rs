//! The LoRA adapters that requests may name.

use std::sync::Arc;

use fireside_model::Lora;

use crate::blocks::Prefix;
use crate::{Engine, Error, Executor};

/// An adapter in the engine.
#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    lora: Arc<Lora>,
    root: Prefix,
}

/// The adapters in the engine, in the order that the executor has them in.
#[derive(Debug, Default)]
pub(crate) struct Loras(Vec<Entry>);

impl Loras {
    /// The root of the keys and values that are computed with an adapter.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownLora`] where there is none of that name.
    pub(crate) fn root(&self, name: Option<&str>) -> Result<Prefix, Error> {
        let Some(name) = name else {
            return Ok(Prefix::default());
        };
        let own = self.0.iter().find(|own| *own.name == *name);
        let own = own.ok_or_else(|| self.unknown(name))?;
        Ok(own.root)
    }

    /// The number that the executor knows the adapter of a root by; `None` for the model without one.
    pub(crate) fn number(&self, root: Prefix) -> Option<usize> {
        self.0.iter().position(|own| own.root == root)
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<&str> = self.0.iter().map(|own| &*own.name).collect();
        Error::UnknownLora {
            name: shown(name),
            known: match known.is_empty() {
                true => "none is loaded".into(),
                false => format!("loaded are {}", known.join(", ")),
            },
        }
    }
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

impl<E: Executor> Engine<E> {
    /// Gives the model a LoRA adapter, which requests can then name. An adapter must have been read for the
    /// executor's model. Requests under way go on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] where the name is empty or taken, or there are as many as there may be;
    /// [`Error::Lora`] where the executor cannot hold it.
    pub fn add_lora(&mut self, name: &str, lora: Arc<Lora>) -> Result<(), Error> {
        let taken = self.loras.0.iter().any(|own| *own.name == *name);
        if name.is_empty() || taken {
            let expected = match taken {
                true => "a name that no loaded adapter has",
                false => "a name",
            };
            let value = format!("{:?}", shown(name));
            return Err(Error::invalid("lora_name", value, expected));
        }
        let most = self.config.max_loras;
        if self.loras.0.len() >= most {
            let expected = format!("at most {most} adapters at once: remove one first");
            return Err(Error::invalid("max_loras", most, expected));
        }
        let mut all = self.loras.0.clone();
        all.push(Entry {
            name: name.into(),
            lora,
            root: self.scheduler.root(),
        });
        self.set_loras(all)
    }

    /// Takes a LoRA adapter from the model.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownLora`] where there is none of that name, [`Error::LoraInUse`] while a request has it.
    pub fn remove_lora(&mut self, name: &str) -> Result<(), Error> {
        let root = self.loras.root(Some(name))?;
        let requests = self.scheduler.rooted(root);
        if requests > 0 {
            return Err(Error::LoraInUse {
                name: shown(name),
                requests,
            });
        }
        let mut all = self.loras.0.clone();
        all.retain(|own| own.root != root);
        self.set_loras(all)
    }

    /// Sees whether there is a LoRA adapter of that name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownLora`] where there is none.
    pub fn check_lora(&self, name: &str) -> Result<(), Error> {
        self.loras.root(Some(name)).map(drop)
    }

    /// The LoRA adapters and their names.
    pub fn loras(&self) -> impl Iterator<Item = (&str, &Arc<Lora>)> {
        self.loras.0.iter().map(|own| (&*own.name, &own.lora))
    }

    fn set_loras(&mut self, all: Vec<Entry>) -> Result<(), Error> {
        let own: Vec<_> = all.iter().map(|own| Arc::clone(&own.lora)).collect();
        let set = self.executor.set_loras(&own);
        set.map_err(|source| Error::Lora { source })?;
        self.loras = Loras(all);
        Ok(())
    }
}
