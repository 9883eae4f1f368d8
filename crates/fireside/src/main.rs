//! The `fireside` command.

fn main() -> std::process::ExitCode {
    fireside::cli::main()
}
