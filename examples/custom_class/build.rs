//! Makes the program find the libpython it was linked against, wherever it is started from.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
