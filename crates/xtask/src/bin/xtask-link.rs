//! A linker for the browser module that leaves constructors out: `xtask-link ARGUMENTS…` calls the
//! linker named by `FIRESIDE_LINKER` with the objects stripped of their init functions.
//!
//! Burn's runtime registers, in thousands of constructors, the intermediate language of kernels that are
//! compiled when they are launched. Fireside launches none of those. Without the constructors the linker
//! finds that half of the module is out of reach, and drops it. Only objects are looked into: with
//! link-time optimisation there is one, with all of the code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// The custom section that object files carry for the linker.
const LINKING: &[u8] = b"linking";
/// Its subsection of functions to be called at start.
const INIT_FUNCTIONS: u8 = 6;

fn main() -> ExitCode {
    let Some(linker) = env::var_os("FIRESIDE_LINKER") else {
        eprintln!("xtask-link: FIRESIDE_LINKER is not set: name the linker for wasm32");
        return ExitCode::from(2);
    };
    let mut made = Vec::new();
    let arguments: Vec<OsString> = env::args_os()
        .skip(1)
        .map(|argument| match strip(Path::new(&argument)) {
            Some(path) => {
                made.push(path.clone());
                path.into()
            }
            None => argument,
        })
        .collect();
    let status = Command::new(&linker).args(arguments).status();
    for path in made {
        // In the folder of the build, which goes away as a whole.
        let _ = fs::remove_file(path);
    }
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask-link: {}: {error}", linker.display());
            ExitCode::FAILURE
        }
    }
}

/// A copy of an object without init functions; `None` for what is no object, or has none.
fn strip(path: &Path) -> Option<PathBuf> {
    if path.extension()? != "o" {
        return None;
    }
    let stripped = without_init_functions(&fs::read(path).ok()?)?;
    let copy = path.with_extension("stripped.o");
    fs::write(&copy, stripped).ok()?;
    Some(copy)
}

/// The object without its init functions; `None` where there is nothing to take out, or the bytes are
/// not what they should be.
fn without_init_functions(object: &[u8]) -> Option<Vec<u8>> {
    let mut out = object.get(..8)?.to_vec();
    let mut rest = object.get(8..)?;
    let mut found = false;
    while let [id, tail @ ..] = rest {
        let (size, tail) = leb(tail)?;
        let (section, tail) = tail.split_at_checked(size)?;
        rest = tail;
        let changed = (*id == 0).then(|| linking(section)).flatten();
        found |= changed.is_some();
        let section = changed.as_deref().unwrap_or(section);
        out.push(*id);
        put_leb(&mut out, section.len());
        out.extend(section);
    }
    found.then_some(out)
}

/// A `linking` section without the subsection.
fn linking(section: &[u8]) -> Option<Vec<u8>> {
    let (length, tail) = leb(section)?;
    let (name, tail) = tail.split_at_checked(length)?;
    if name != LINKING {
        return None;
    }
    let (_version, mut rest) = leb(tail)?;
    let mut out = section[..section.len() - rest.len()].to_vec();
    let mut found = false;
    while let [kind, tail @ ..] = rest {
        let (size, tail) = leb(tail)?;
        let (own, tail) = tail.split_at_checked(size)?;
        rest = tail;
        if *kind == INIT_FUNCTIONS {
            found = true;
            continue;
        }
        out.push(*kind);
        put_leb(&mut out, own.len());
        out.extend(own);
    }
    found.then_some(out)
}

/// An unsigned number in LEB128, and what follows it.
fn leb(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u32;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value as usize, &bytes[index + 1..]));
        }
    }
    None
}

fn put_leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![id];
        put_leb(&mut out, body.len());
        out.extend(body);
        out
    }

    fn object(subsections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut body = vec![7];
        body.extend(LINKING);
        body.push(2);
        for (kind, own) in subsections {
            body.extend(section(*kind, own));
        }
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        out.extend(section(1, &[0]));
        out.extend(section(0, &body));
        out.extend(section(0, b"\x04name"));
        out
    }

    #[test]
    fn init_functions_are_taken_out_and_nothing_else() {
        let long = vec![9; 300];
        let with = object(&[(8, &long), (INIT_FUNCTIONS, &[1, 2, 3]), (5, &[4])]);
        let without = object(&[(8, &long), (5, &[4])]);
        assert_eq!(without_init_functions(&with), Some(without.clone()));
        assert_eq!(without_init_functions(&without), None);
    }

    #[test]
    fn broken_bytes_are_left_to_the_linker() {
        let with = object(&[(INIT_FUNCTIONS, &[1, 2, 3])]);
        for end in 0..with.len() {
            without_init_functions(&with[..end]);
        }
        assert_eq!(
            without_init_functions(b"\0asm\x01\0\0\0\0\xff\xff\xff\xff\xff\xff"),
            None
        );
    }
}
