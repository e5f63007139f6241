//! Makes the binary find the libpython it was linked against, wherever it is started from.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::add_libpython_rpath_link_args();
}
