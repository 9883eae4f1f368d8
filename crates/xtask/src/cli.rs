//! The command line: what was asked, as data.

use anyhow::{Result, bail};
use xtask::synth::Synthetic;

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
  bench                       measure Fireside and its peers in one session, in turns
       --out FOLDER             where bench.json, bench.md and bench.svg go (bench in the build folder)
       --only ROW...            these engines only
       --list                   print the engines, and what is missing for some
       --quick                  one short round
       --rounds N, --prompt N, --generate N, --depths N,N, --concurrency N,N
                                rounds (3), tokens of a prefill (128) and of a decode (16), tokens in the
                                context (100,1000,4000), sequences at once (1,2,4,8,16)
  synth OUT.gguf              write a llama of random weights, for speed at sizes that nobody has to fetch
       --size NAME              tiny, 1b, 3b or 8b (3b): the shapes of Llama 3
       --type TYPE              q4_0, q4_1, q8_0 or f16 (q4_1)
       --layers N, --hidden N, --heads N, --kv-heads N, --feed-forward N, --vocab N, --context N
                                instead of what the size says
  web                         build the browser module and its JavaScript side
       --out FOLDER             where the files go (web/src/wasm)
  web serve                   build the demo page and serve it on 127.0.0.1
       --port NUMBER            the port (8080)
       --keep-wasm              take the browser module of the last build
  help                        print this

environment:
  CARGO_TARGET_DIR      where builds go (~/.cache/fireside/target)
  FIRESIDE_NO_INSTALL   set to 1, nothing is ever installed on the system
  FIRESIDE_CHROMIUM     the browser of the browser tests
  FIRESIDE_TEST_GGUF    the model file of tests and benchmarks, instead of the default one
  FIRESIDE_BENCH_PYTHON a python with torch and transformers, for their row of the benchmark
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
    /// Measure us and the peers.
    Bench(BenchOptions),
    /// Write a model of random weights.
    Synth(SynthOptions),
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

/// Options of `bench`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    /// The folder of the report; one of the build folder where none is named.
    pub(crate) out: Option<String>,
    /// The engines; empty means all.
    pub(crate) only: Vec<String>,
    /// Print the engines and stop.
    pub(crate) list: bool,
    /// Handed on as they are, name and value.
    pub(crate) handed_on: Vec<String>,
}

/// Options of `synth`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SynthOptions {
    /// The file to write.
    pub(crate) out: String,
    /// What it holds.
    pub(crate) model: Synthetic,
}

/// Options of `web`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WebOptions {
    /// The folder of the result, relative to the workspace.
    pub(crate) out: String,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
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
        "test" | "tidy" | "web" | "bench" | "synth" if wants_help => Ok(Command::Help),
        "test" => Ok(Command::Test(test(rest)?)),
        "bench" => Ok(Command::Bench(bench(rest)?)),
        "synth" => Ok(Command::Synth(synth(rest)?)),
        "tidy" if rest.is_empty() => Ok(Command::Tidy),
        "tidy" => bail!("`tidy` takes no options, got `{}`", rest.join(" ")),
        "web" => match rest.split_first() {
            Some((serve, rest)) if serve == "serve" => Ok(Command::Serve(self::serve(rest)?)),
            _ => Ok(Command::Web(web(rest)?)),
        },
        other => bail!(
            "no command `{other}`: there are demo, test, bench, synth, tidy and web, see `cargo xtask help`"
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

fn bench(rest: &[String]) -> Result<BenchOptions> {
    let mut options = BenchOptions::default();
    let mut names = false;
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        match name {
            "--list" if value.is_none() => options.list = true,
            "--quick" if value.is_none() => options.handed_on.push(name.to_owned()),
            "--only" => options.only.extend(value),
            "--out" | "--rounds" | "--prompt" | "--generate" | "--depths" | "--concurrency" => {
                let Some(value) = value.or_else(|| arguments.next().cloned()) else {
                    bail!("`{name}` needs a value");
                };
                if name == "--out" {
                    options.out = Some(value);
                } else {
                    options.handed_on.extend([name.to_owned(), value]);
                }
            }
            row if names && !row.starts_with('-') => options.only.push(row.to_owned()),
            other => bail!(
                "no option `{other}` of `bench`: there are --out, --only, --list, --quick, --rounds, \
                 --prompt, --generate, --depths and --concurrency"
            ),
        }
        names = name == "--only" || (names && !name.starts_with('-'));
    }
    Ok(options)
}

fn synth(rest: &[String]) -> Result<SynthOptions> {
    let mut out = None;
    let mut size = "3b".to_owned();
    let mut given: Vec<(String, String)> = Vec::new();
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with('-') {
            if let Some(first) = out.replace(argument.clone()) {
                bail!("two files to write, `{first}` and `{argument}`: name one");
            }
            continue;
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let Some(value) = value.or_else(|| arguments.next().cloned()) else {
            bail!("`{name}` needs a value");
        };
        if name == "--size" {
            size = value;
        } else {
            given.push((name.to_owned(), value));
        }
    }
    let Some(out) = out else {
        bail!("`synth` needs the file to write: `cargo xtask synth OUT.gguf --size 3b`");
    };
    let Some(mut model) = Synthetic::named(&size) else {
        bail!("--size is `{size}`; expected tiny, 1b, 3b or 8b");
    };
    for (name, value) in &given {
        model.set(name.trim_start_matches('-'), value)?;
    }
    model.check()?;
    Ok(SynthOptions { out, model })
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
            "--out" => &mut options.out,
            other => {
                bail!("no option `{other}` of `web`: there is --out")
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
        for line in ["web --out there", "web --out=there"] {
            let Command::Web(options) = parse(&words(line)).unwrap() else {
                panic!("not web");
            };
            assert_eq!(options.out, "there");
        }
        assert!(parse(&words("web --crate=mine")).is_err());
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
    fn engines_follow_only_and_numbers_are_handed_on() {
        let of = |line| match parse(&words(line)) {
            Ok(Command::Bench(options)) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let options = of("bench --only fireside-gpu llama-vulkan --rounds 5 --out=there").unwrap();
        assert_eq!(options.only, ["fireside-gpu", "llama-vulkan"]);
        assert_eq!(options.handed_on, ["--rounds", "5"]);
        assert_eq!(options.out.as_deref(), Some("there"));
        assert!(of("bench --quick --list").unwrap().list);
        assert!(of("bench fireside-gpu").unwrap_err().contains("--only"));
        assert!(of("bench --rounds").unwrap_err().contains("needs a value"));
    }

    #[test]
    fn a_synthetic_model_has_a_size_and_exceptions_from_it() {
        let of = |line| match parse(&words(line)) {
            Ok(Command::Synth(options)) => Ok(options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let options = of("synth there.gguf --size 8b --layers 2 --type=q8_0").unwrap();
        assert_eq!(options.out, "there.gguf");
        assert_eq!(options.model.layers, 2);
        assert_eq!(options.model.hidden, 4096);
        for (wrong, says) in [
            ("synth", "the file to write"),
            ("synth a.gguf --size 9b", "expected tiny, 1b, 3b or 8b"),
            ("synth a.gguf --layers many", "layers is `many`"),
            ("synth a.gguf --colour red", "no option `--colour`"),
            ("synth a.gguf --hidden 100", "blocks of 32"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_unknown_command_names_the_known_ones() {
        let error = parse(&words("tset")).unwrap_err().to_string();
        assert!(
            error.contains("demo, test, bench, synth, tidy and web"),
            "{error}"
        );
    }
}
