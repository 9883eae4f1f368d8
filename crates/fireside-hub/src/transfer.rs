//! Downloads one file into its slot: resumes what broke off, verifies what arrived.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::digest::BLOCK;
use crate::error::Error;
use crate::http::{Answer, Failure, Http, Retry, bad_answer, shown};
use crate::options::Options;
use crate::progress::{Phase, Running};
use crate::slot::{Digests, Expect, Promise, Slot, remove, verify, write_json};

/// How many bytes are taken from a server that does not say how many will come.
const MAX_UNANNOUNCED: u64 = 64 << 20;

/// What a partial download came from, so that only the same file is ever continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartState {
    url: String,
    etag: Option<String>,
    total: Option<u64>,
}

/// Fetches `url` and puts it in place once it is whole and verified. Call it with the folder's
/// lock held.
///
/// A connection that breaks is resumed where it ended, up to `options.retries` times in a row. A
/// part that an earlier process left is resumed too if the server says that the file is the same;
/// if the whole then has a wrong digest, it is fetched once more from its start.
pub(crate) fn download(
    http: &Http,
    url: &str,
    slot: &Slot,
    expect: &Expect,
    options: &Options,
) -> Result<Digests, Error> {
    if let Some(folder) = slot.path().parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let mut transfer = Transfer {
        http,
        url,
        slot,
        expect: expect.clone(),
        options,
        resumed: false,
        restarted: false,
        reached: false,
    };
    let result = transfer.run();
    if result.as_ref().is_err_and(Error::is_disk_full) {
        // Give the space back; there is no use in a part that cannot grow.
        let _ = slot.discard_part();
    }
    result
}

struct Transfer<'a> {
    http: &'a Http,
    url: &'a str,
    slot: &'a Slot,
    expect: Expect,
    options: &'a Options,
    /// Some of the part was there before this process or connection.
    resumed: bool,
    /// A resumed part had the wrong digest and was thrown away.
    restarted: bool,
    /// The server has sent something to this process.
    reached: bool,
}

impl Transfer<'_> {
    fn run(&mut self) -> Result<Digests, Error> {
        loop {
            self.fill_part()?;
            let part = self.slot.part();
            let origin = shown(self.url);
            match verify(&part, &self.expect, &origin, &*self.options.progress) {
                Ok(digests) => {
                    self.slot.publish(&part, digests.clone())?;
                    return Ok(digests);
                }
                Err(error) => {
                    self.slot.discard_part()?;
                    if !self.resumed || self.restarted {
                        return Err(error);
                    }
                    self.resumed = false;
                    self.restarted = true;
                    self.options
                        .progress
                        .notice(&format!("{error}; it starts over"));
                }
            }
        }
    }

    /// Repeats attempts until the part is whole.
    fn fill_part(&mut self) -> Result<(), Error> {
        let mut failures = 0u32;
        loop {
            let before = self.part_length();
            let failure = match self.attempt() {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(failure) => failure,
            };
            let gained = self.part_length().saturating_sub(before);
            // A block counts as progress: a server cannot keep us here with a byte at a time.
            failures = if gained >= BLOCK as u64 {
                1
            } else {
                failures + 1
            };
            let again = match failure.retry {
                Retry::Never => false,
                Retry::Soon => true,
                Retry::IfReached => self.reached,
            };
            if !again || failures > self.options.retries {
                return Err(failure.error);
            }
            self.options.progress.notice(&format!(
                "{}; trying again ({failures} of {})",
                failure.error, self.options.retries
            ));
            thread::sleep(self.options.retry_wait.saturating_mul(failures));
        }
    }

    fn part_length(&self) -> u64 {
        fs::metadata(self.slot.part()).map_or(0, |meta| meta.len())
    }

    /// The part's state, if it belongs to this file and there is anything to continue.
    fn resumable(&self) -> Option<PartState> {
        let text = fs::read(self.slot.part_state()).ok()?;
        let state: PartState = serde_json::from_slice(&text).ok()?;
        (state.url == self.url && state.etag.is_some() && self.part_length() > 0).then_some(state)
    }

    /// One request. True if the part is whole, false if it has to start over at once.
    fn attempt(&mut self) -> Result<bool, Failure> {
        let state = self.resumable();
        let from = if state.is_some() {
            self.part_length()
        } else {
            0
        };
        if let Some(state) = &state
            && state.total == Some(from)
        {
            self.resumed = true;
            return Ok(true);
        }
        let reply = match self.http.get(self.url, from)? {
            Answer::Content(reply) => reply,
            Answer::OutOfRange if from > 0 => {
                self.slot.discard_part()?;
                return Ok(false);
            }
            Answer::OutOfRange => {
                return Err(bad_answer(self.url, "HTTP 416 to a request without a range").into());
            }
        };
        self.reached = true;
        self.adopt(reply.promise.clone(), reply.total)?;
        let current = PartState {
            url: self.url.to_owned(),
            etag: reply.etag.clone(),
            total: self.expect.size.or(reply.total),
        };
        if reply.start != 0 && from == 0 {
            return Err(bad_answer(self.url, "a part of the file where all was asked for").into());
        }
        // A server that ignores the range sends the file from its start, which is as good.
        if reply.start != 0 && (reply.start != from || state.as_ref() != Some(&current)) {
            self.slot.discard_part()?;
            return Ok(false);
        }
        self.resumed |= reply.start > 0;
        let mut file = self.open_part(reply.start, &current)?;
        self.copy(reply.body, &mut file, reply.start, current.total)?;
        Ok(true)
    }

    /// Takes over what the server says of the file, and refuses it at once if that contradicts
    /// what is expected.
    fn adopt(&mut self, promise: Option<Promise>, total: Option<u64>) -> Result<(), Error> {
        if let (Some(Promise::Sha256(expected)), Some(Promise::Sha256(actual))) =
            (&self.expect.promise, &promise)
            && expected != actual
        {
            return Err(Error::Checksum {
                file: self.slot.name(),
                origin: shown(self.url),
                expected: expected.clone(),
                actual: actual.clone(),
            });
        }
        if let (Some(expected), Some(actual)) = (self.expect.size, total)
            && expected != actual
        {
            return Err(Error::Size {
                file: self.slot.name(),
                origin: shown(self.url),
                expected,
                actual,
            });
        }
        if self.expect.promise.is_none() {
            self.expect.promise = promise;
        }
        Ok(())
    }

    fn open_part(&self, start: u64, state: &PartState) -> Result<File, Error> {
        let path = self.slot.part();
        if start > 0 {
            return File::options()
                .append(true)
                .open(&path)
                .map_err(Error::io("open", &path));
        }
        // No state while the part is being emptied: bytes of one file never count for another.
        remove(&self.slot.part_state())?;
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        write_json(&self.slot.part_state(), state)?;
        Ok(file)
    }

    fn copy(
        &self,
        mut body: Box<dyn Read>,
        file: &mut File,
        start: u64,
        total: Option<u64>,
    ) -> Result<(), Failure> {
        let path = self.slot.part();
        let name = self.slot.name();
        let running = Running::begin(&*self.options.progress, Phase::Download, &name, total);
        let mut done = start;
        running.advance(done);
        let mut block = vec![0; BLOCK];
        loop {
            let read = body
                .read(&mut block)
                .map_err(|e| Failure::broken(self.url, &e.to_string()))?;
            if read == 0 {
                break;
            }
            done = done.saturating_add(read as u64);
            let limit = total.unwrap_or(MAX_UNANNOUNCED);
            if done > limit {
                self.slot.discard_part()?;
                let reason = match total {
                    Some(_) => format!("more than the {limit} bytes that it announced"),
                    None => format!("more than {limit} bytes without announcing a size"),
                };
                return Err(bad_answer(self.url, &reason).into());
            }
            write_block(file, &path, &block[..read])?;
            running.advance(done);
        }
        if let Some(total) = total.filter(|&total| done < total) {
            return Err(Failure::broken(
                self.url,
                &format!("the connection ended after {done} of {total} bytes"),
            ));
        }
        file.sync_all().map_err(Error::io("write", &path))?;
        Ok(())
    }
}

fn write_block(file: &mut File, path: &Path, block: &[u8]) -> Result<(), Error> {
    file.write_all(block).map_err(Error::io("write", path))
}
