//! The LoRA adapters that requests may name.

use std::sync::Arc;

use fireside_model::Lora;

use crate::blocks::Prefix;
use crate::{Engine, Error, Executor};

/// An adapter in the engine.
#[derive(Debug)]
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
    /// As for [`set_loras`](Self::set_loras), but for [`Error::LoraInUse`].
    pub fn add_lora(&mut self, name: &str, lora: Arc<Lora>) -> Result<(), Error> {
        let mut all = self.named_loras();
        all.push((name.into(), lora));
        self.set_loras(all)
    }

    /// Takes a LoRA adapter from the model.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownLora`] where there is none of that name, [`Error::LoraInUse`] while a request has it.
    pub fn remove_lora(&mut self, name: &str) -> Result<(), Error> {
        self.check_lora(name)?;
        let mut all = self.named_loras();
        all.retain(|(own, _)| **own != *name);
        self.set_loras(all)
    }

    /// Makes these the model's LoRA adapters, in one go: what is there already stays.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] where a name is empty or stands twice, there are too many, or one has too
    /// large a rank; [`Error::LoraInUse`] where one that is to go has a request; [`Error::Lora`] where the executor
    /// cannot hold them. Those of before stay then.
    pub fn set_loras(&mut self, loras: Vec<(Arc<str>, Arc<Lora>)>) -> Result<(), Error> {
        let (most, most_rank) = (self.config.max_loras, self.config.max_lora_rank);
        if loras.len() > most {
            let expected =
                format!("at most {most} LoRA adapters at once: unload one, or allow more");
            return Err(Error::invalid("max_loras", most, expected));
        }
        for (at, (name, lora)) in loras.iter().enumerate() {
            let twice = loras[..at].iter().any(|(other, _)| other == name);
            if name.is_empty() || twice {
                let expected = match twice {
                    true => "a name that no other adapter has",
                    false => "a name",
                };
                let value = format!("{:?}", shown(name));
                return Err(Error::invalid("lora_name", value, expected));
            }
            if lora.rank() > most_rank {
                let expected = format!("at most {most_rank}, or a larger max_lora_rank");
                return Err(Error::invalid("lora_rank", lora.rank(), expected));
            }
        }
        let entry = |(name, lora): (Arc<str>, Arc<Lora>)| {
            let same = |own: &&Entry| own.name == name && Arc::ptr_eq(&own.lora, &lora);
            let root = self.loras.0.iter().find(same).map(|own| own.root);
            let root = root.unwrap_or_else(|| self.scheduler.root());
            Entry { name, lora, root }
        };
        let all: Vec<Entry> = loras.into_iter().map(entry).collect();
        for gone in &self.loras.0 {
            let requests = self.scheduler.rooted(gone.root);
            if requests > 0 && !all.iter().any(|own| own.root == gone.root) {
                return Err(Error::LoraInUse {
                    name: shown(&gone.name),
                    requests,
                });
            }
        }
        let own: Vec<_> = all.iter().map(|own| Arc::clone(&own.lora)).collect();
        let set = self.executor.set_loras(&own);
        set.map_err(|source| Error::Lora { source })?;
        self.loras = Loras(all);
        Ok(())
    }

    fn named_loras(&self) -> Vec<(Arc<str>, Arc<Lora>)> {
        let named = |own: &Entry| (Arc::clone(&own.name), Arc::clone(&own.lora));
        self.loras.0.iter().map(named).collect()
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
}
