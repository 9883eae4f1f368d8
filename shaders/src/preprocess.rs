//! A line preprocessor for WGSL: `#if FLAG`, `#else`, `#endif`, `#include "file"`,
//! `#repeat name COUNT`, `#endrepeat`, `@binding(auto)`.
//!
//! WGSL has no conditional compilation, and a bind group's numbers depend on which
//! optional buffers a variant has, so bindings are numbered in order of appearance.
//! `#repeat` writes its lines once per number below a constant or literal, with `$name` replaced by it:
//! some compilers keep arrays in memory where a loop over them is not unrolled.

use std::collections::BTreeSet;

/// What can be wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `#else` or `#endif` without `#if`, or an `#if` that never ends.
    Unbalanced {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// An `#include` of a file that is not there.
    UnknownInclude {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The name asked for.
        name: String,
    },
    /// A `#repeat` over a constant that the variant does not define.
    UnknownConstant {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The name asked for.
        name: String,
    },
    /// A directive that is none of the known ones.
    UnknownDirective {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The directive as written.
        directive: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unbalanced { file, line } => {
                write!(
                    f,
                    "{file}:{line}: unbalanced #if, #else, #endif, #repeat or #endrepeat"
                )
            }
            Self::UnknownInclude { file, line, name } => {
                write!(f, "{file}:{line}: no shader file named {name:?} to include")
            }
            Self::UnknownConstant { file, line, name } => {
                write!(
                    f,
                    "{file}:{line}: #repeat over {name:?}, which is not defined"
                )
            }
            Self::UnknownDirective {
                file,
                line,
                directive,
            } => write!(
                f,
                "{file}:{line}: unknown directive {directive:?}, known are #if, #else, #endif, #include, #repeat, #endrepeat"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Expands one template.
///
/// `flag` tells whether a flag is set, `constant` gives the value of a constant, `include` the
/// text of an included file.
/// A file is included once; later includes of it are empty.
///
/// # Errors
///
/// See [`Error`].
pub fn preprocess(
    file: &str,
    template: &str,
    flag: &dyn Fn(&str) -> bool,
    constant: &dyn Fn(&str) -> Option<u32>,
    include: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<String, Error> {
    let mut expander = Expander {
        flag,
        constant,
        include,
        included: BTreeSet::new(),
        bindings: 0,
        out: String::with_capacity(template.len() * 2),
    };
    expander.expand(file, template)?;
    Ok(expander.out)
}

struct Expander<'a> {
    flag: &'a dyn Fn(&str) -> bool,
    constant: &'a dyn Fn(&str) -> Option<u32>,
    include: &'a dyn Fn(&str) -> Option<&'static str>,
    included: BTreeSet<String>,
    bindings: u32,
    out: String,
}

impl Expander<'_> {
    fn expand(&mut self, file: &str, template: &str) -> Result<(), Error> {
        // One entry per open #if: whether its current branch is taken.
        let mut open: Vec<bool> = Vec::new();
        let unbalanced = |line| Error::Unbalanced {
            file: file.to_string(),
            line,
        };
        let lines: Vec<&str> = template.lines().collect();
        let mut next = 0;
        while let Some(text) = lines.get(next) {
            next += 1;
            let line = next;
            let trimmed = text.trim_start();
            if !trimmed.starts_with('#') {
                if open.iter().all(|taken| *taken) {
                    self.push_line(text);
                }
                continue;
            }
            let (directive, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            match directive {
                "#if" => open.push((self.flag)(rest.trim())),
                "#else" => {
                    let last = open.last_mut().ok_or_else(|| unbalanced(line))?;
                    *last = !*last;
                }
                "#endif" => {
                    open.pop().ok_or_else(|| unbalanced(line))?;
                }
                "#repeat" => {
                    let end = block_end(&lines, next).ok_or_else(|| unbalanced(line))?;
                    let body = lines[next..end].join("\n");
                    next = end + 1;
                    if open.iter().all(|taken| *taken) {
                        let (name, constant) = rest.trim().split_once(' ').unwrap_or((rest, ""));
                        let count = constant
                            .parse()
                            .ok()
                            .or_else(|| (self.constant)(constant))
                            .ok_or_else(|| Error::UnknownConstant {
                                file: file.to_string(),
                                line,
                                name: constant.to_string(),
                            })?;
                        for number in 0..count {
                            let own = body.replace(&format!("${name}"), &number.to_string());
                            self.expand(file, &own)?;
                        }
                    }
                }
                "#endrepeat" => return Err(unbalanced(line)),
                "#include" => {
                    let name = rest.trim().trim_matches('"');
                    if open.iter().all(|taken| *taken) && self.included.insert(name.to_string()) {
                        let text = (self.include)(name).ok_or_else(|| Error::UnknownInclude {
                            file: file.to_string(),
                            line,
                            name: name.to_string(),
                        })?;
                        self.expand(name, text)?;
                    }
                }
                _ => {
                    return Err(Error::UnknownDirective {
                        file: file.to_string(),
                        line,
                        directive: directive.to_string(),
                    });
                }
            }
        }
        if open.is_empty() {
            Ok(())
        } else {
            Err(unbalanced(template.lines().count()))
        }
    }

    fn push_line(&mut self, text: &str) {
        if text.trim_start().starts_with("//") {
            return;
        }
        match text.split_once("@binding(auto)") {
            Some((before, after)) => {
                self.out.push_str(before);
                self.out.push_str(&format!("@binding({})", self.bindings));
                self.out.push_str(after);
                self.bindings += 1;
            }
            None => self.out.push_str(text),
        }
        self.out.push('\n');
    }
}

/// The index of the `#endrepeat` that ends the block starting at `from`.
fn block_end(lines: &[&str], from: usize) -> Option<usize> {
    let mut depth = 1;
    for (index, text) in lines.iter().enumerate().skip(from) {
        let text = text.trim_start();
        if text.starts_with("#repeat") {
            depth += 1;
        } else if text.starts_with("#endrepeat") {
            depth -= 1;
            if depth == 0 {
                return Some(index);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str, flags: &[&str]) -> Result<String, Error> {
        let constant = |name: &str| (name == "TWO").then_some(2);
        preprocess(
            "test",
            template,
            &|name| flags.contains(&name),
            &constant,
            &|name| (name == "a.wgsl").then_some("included\n@binding(auto)"),
        )
    }

    #[test]
    fn the_taken_branch_is_kept() {
        let text = "#if A\nyes\n#else\nno\n#endif\nend";
        assert_eq!(run(text, &["A"]).unwrap(), "yes\nend\n");
        assert_eq!(run(text, &[]).unwrap(), "no\nend\n");
    }

    #[test]
    fn a_branch_inside_an_untaken_one_is_untaken() {
        let text = "#if A\n#if B\nx\n#else\ny\n#endif\n#endif";
        assert_eq!(run(text, &["B"]).unwrap(), "");
        assert_eq!(run(text, &["A"]).unwrap(), "y\n");
    }

    #[test]
    fn bindings_are_numbered_in_order_across_includes_and_includes_happen_once() {
        let text = "@binding(auto) x\n#include \"a.wgsl\"\n#include \"a.wgsl\"\n@binding(auto) y";
        assert_eq!(
            run(text, &[]).unwrap(),
            "@binding(0) x\nincluded\n@binding(1)\n@binding(2) y\n"
        );
    }

    #[test]
    fn a_repeat_writes_its_lines_per_number_and_nests() {
        let text =
            "#repeat i TWO\na$i\n#repeat j TWO\n#if A\nb$i$j\n#endif\n#endrepeat\n#endrepeat";
        assert_eq!(run(text, &["A"]).unwrap(), "a0\nb00\nb01\na1\nb10\nb11\n");
        assert_eq!(run(text, &[]).unwrap(), "a0\na1\n");
        assert_eq!(
            run("#repeat i 2\na$i\n#endrepeat", &[]).unwrap(),
            "a0\na1\n"
        );
        assert!(run("#repeat i THREE\n#endrepeat", &[]).is_err());
        assert!(run("#repeat i TWO", &[]).is_err());
    }

    #[test]
    fn mistakes_name_file_and_line() {
        assert_eq!(
            run("#if A\nx", &[]).unwrap_err().to_string(),
            "test:2: unbalanced #if, #else, #endif, #repeat or #endrepeat"
        );
        assert_eq!(
            run("x\n#endif", &[]).unwrap_err().to_string(),
            "test:2: unbalanced #if, #else, #endif, #repeat or #endrepeat"
        );
        assert_eq!(
            run("#include \"b.wgsl\"", &[]).unwrap_err().to_string(),
            "test:1: no shader file named \"b.wgsl\" to include"
        );
        assert_eq!(
            run("#define A", &[]).unwrap_err().to_string(),
            "test:1: unknown directive \"#define\", known are #if, #else, #endif, #include, #repeat, #endrepeat"
        );
    }
}
