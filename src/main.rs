//! The `rowgate` program: the library's command line, on an allocator that keeps threads apart.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rowgate::cli::main()
}
