//! The command line: what was asked, as data.

use anyhow::{Result, bail};

/// The text of `cargo xtask help`.
pub(crate) const HELP: &str = "\
usage: cargo xtask COMMAND

  demo [PROMPT] [OPTION...]   set up, build, and stream an answer from the default model;
                              options go to `fireside generate`
  test                        run everything that continuous integration checks
       --only STEP...           run these steps only
       --skip STEP...           leave these steps out
       --list                   print the steps
  tidy                        check the rules on files that no compiler checks
  web                         build the browser module and its JavaScript side
       --crate NAME             the crate to build (fireside-web)
       --profile NAME           the cargo profile (web)
       --out FOLDER             where the files go (web/src/wasm)
  web serve                   build the demo page and serve it on 127.0.0.1
       --port NUMBER            the port (8080)
       --keep-wasm              take the browser module of the last build
  help                        print this

environment:
  CARGO_TARGET_DIR      where builds go (~/.cache/fireside/target)
  FIRESIDE_NO_INSTALL   set to 1, nothing is ever installed on the system
  FIRESIDE_CHROMIUM     the browser of the browser tests
  FIRESIDE_TEST_GGUF    the model file of the tests, instead of the default one
";

/// The prompt of the demo where none is given.
pub(crate) const DEMO_PROMPT: &str = "What is the capital of France?";

/// One chore with its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Build and stream an answer.
    Demo(DemoOptions),
    /// Run the checks.
    Test(TestOptions),
    /// Check the files.
    Tidy,
    /// Build the browser module.
    Web(WebOptions),
    /// Build the demo page and serve it.
    Serve(ServeOptions),
}

/// Options of `demo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DemoOptions {
    /// What the model is asked.
    pub(crate) prompt: String,
    /// Handed on as they are.
    pub(crate) extra: Vec<String>,
}

/// Options of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// The steps to run; empty means all.
    pub(crate) only: Vec<String>,
    /// The steps to leave out.
    pub(crate) skip: Vec<String>,
    /// Print the steps and stop.
    pub(crate) list: bool,
}

/// Options of `web`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WebOptions {
    /// The crate to build.
    pub(crate) package: String,
    /// The cargo profile.
    pub(crate) profile: String,
    /// The folder of the result, relative to the workspace.
    pub(crate) out: String,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            package: "fireside-web".to_owned(),
            profile: "web".to_owned(),
            out: "web/src/wasm".to_owned(),
        }
    }
}

/// Options of `web serve`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServeOptions {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    /// Take the module that is there.
    pub(crate) keep_wasm: bool,
}

/// Reads a command line without the program's name.
pub(crate) fn parse(arguments: &[String]) -> Result<Command> {
    let Some((command, rest)) = arguments.split_first() else {
        return Ok(Command::Help);
    };
    let wants_help = rest.iter().any(|a| a == "--help" || a == "-h");
    match command.as_str() {
        "help" | "--help" | "-h" => Ok(Command::Help),
        "demo" => Ok(Command::Demo(demo(rest))),
        "test" | "tidy" | "web" if wants_help => Ok(Command::Help),
        "test" => Ok(Command::Test(test(rest)?)),
        "tidy" if rest.is_empty() => Ok(Command::Tidy),
        "tidy" => bail!("`tidy` takes no options, got `{}`", rest.join(" ")),
        "web" => match rest.split_first() {
            Some((serve, rest)) if serve == "serve" => Ok(Command::Serve(self::serve(rest)?)),
            _ => Ok(Command::Web(web(rest)?)),
        },
        other => bail!(
            "no command `{other}`: there are demo, test, tidy and web, see `cargo xtask help`"
        ),
    }
}

fn demo(rest: &[String]) -> DemoOptions {
    match rest.split_first() {
        Some((prompt, extra)) if !prompt.starts_with('-') => DemoOptions {
            prompt: prompt.clone(),
            extra: extra.to_vec(),
        },
        _ => DemoOptions {
            prompt: DEMO_PROMPT.to_owned(),
            extra: rest.to_vec(),
        },
    }
}

fn test(rest: &[String]) -> Result<TestOptions> {
    let mut options = TestOptions::default();
    let mut list: Option<&mut Vec<String>> = None;
    for argument in rest {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (argument.as_str(), None),
        };
        match (name, value) {
            ("--list", None) => {
                options.list = true;
                list = None;
            }
            ("--only", _) => list = Some(&mut options.only),
            ("--skip", _) => list = Some(&mut options.skip),
            (other, _) if other.starts_with('-') => {
                bail!("no option `{other}` of `test`: there are --only, --skip and --list")
            }
            (step, _) => match &mut list {
                Some(list) => list.push(step.to_owned()),
                None => bail!("`{step}` stands alone: say `--only {step}` or `--skip {step}`"),
            },
        }
        if let (Some(value), Some(list)) = (value, &mut list) {
            list.extend(value.split(',').map(str::to_owned));
        }
    }
    Ok(options)
}

fn web(rest: &[String]) -> Result<WebOptions> {
    let mut options = WebOptions::default();
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let field = match name {
            "--crate" => &mut options.package,
            "--profile" => &mut options.profile,
            "--out" => &mut options.out,
            other => {
                bail!("no option `{other}` of `web`: there are --crate, --profile and --out")
            }
        };
        match value.or_else(|| arguments.next().cloned()) {
            Some(value) => *field = value,
            None => bail!("`{name}` needs a value"),
        }
    }
    Ok(options)
}

fn serve(rest: &[String]) -> Result<ServeOptions> {
    let mut options = ServeOptions {
        port: 8080,
        keep_wasm: false,
    };
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        match (name, value) {
            ("--keep-wasm", None) => options.keep_wasm = true,
            ("--port", value) => {
                let value = value.or_else(|| arguments.next().map(String::as_str));
                let value = value.unwrap_or_default();
                options.port = match value.parse() {
                    Ok(port) if port > 0 => port,
                    _ => bail!("--port is `{value}`; expected a number from 1 to 65535"),
                };
            }
            (other, _) => {
                bail!("no option `{other}` of `web serve`: there are --port and --keep-wasm")
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn steps_follow_their_option_until_the_next() {
        let parsed = parse(&words("test --only fmt tidy --skip=doc,wasm browser")).unwrap();
        let Command::Test(options) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(options.only, ["fmt", "tidy"]);
        assert_eq!(options.skip, ["doc", "wasm", "browser"]);
    }

    #[test]
    fn a_step_without_an_option_says_what_to_write() {
        let error = parse(&words("test fmt")).unwrap_err().to_string();
        assert!(error.contains("--only fmt"), "{error}");
    }

    #[test]
    fn the_demo_asks_about_france_unless_told_otherwise() {
        let Command::Demo(options) = parse(&words("demo --device cpu")).unwrap() else {
            panic!("not a demo");
        };
        assert_eq!(options.prompt, DEMO_PROMPT);
        assert_eq!(options.extra, ["--device", "cpu"]);
        let arguments = ["demo", "Why?", "--seed", "1"].map(str::to_owned);
        let Command::Demo(options) = parse(&arguments).unwrap() else {
            panic!("not a demo");
        };
        assert_eq!(options.prompt, "Why?");
        assert_eq!(options.extra, ["--seed", "1"]);
    }

    #[test]
    fn web_options_take_values_in_both_spellings() {
        let Command::Web(options) = parse(&words("web --crate=mine --out there")).unwrap() else {
            panic!("not web");
        };
        assert_eq!(
            (options.package.as_str(), options.out.as_str()),
            ("mine", "there")
        );
        assert_eq!(options.profile, "web");
        assert!(parse(&words("web --out")).is_err());
    }

    #[test]
    fn the_page_is_served_on_8080_unless_told_otherwise() {
        let of = |line| match parse(&words(line)) {
            Ok(Command::Serve(options)) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(of("web serve").unwrap().port, 8080);
        let options = of("web serve --keep-wasm --port=9000").unwrap();
        assert_eq!((options.port, options.keep_wasm), (9000, true));
        for wrong in [
            "web serve --port",
            "web serve --port 0",
            "web serve --port http",
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains("--port is"), "{error}");
        }
        assert!(of("web serve --out x").unwrap_err().contains("--keep-wasm"));
    }

    #[test]
    fn an_unknown_command_names_the_known_ones() {
        let error = parse(&words("tset")).unwrap_err().to_string();
        assert!(error.contains("demo, test, tidy and web"), "{error}");
    }
}
