//! Has the program's shared libraries call the functions that the worker class `coro` interposes. What is linked into the
//! program, Rust's own library included, does so anyway; but the class insists on it.

fn main() {
    if let Ok(exports) = std::env::var("DEP_RGUNICORN_WORKERS_EXPORTS") {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol-list={exports}");
    }
}
