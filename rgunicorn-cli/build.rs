//! Makes the binary find the libpython it was linked against, wherever it is started from, and has libpython and every
//! extension module call the functions that the worker class `coro` interposes.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::add_libpython_rpath_link_args();
    if let Ok(exports) = std::env::var("DEP_RGUNICORN_WORKERS_EXPORTS") {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol-list={exports}");
    }
}
