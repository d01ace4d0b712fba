//! `plugstorm selftest` without a kernel that could run them.

use super::Bench;

#[test]
fn a_kernel_without_kunit_gives_one_sentence() {
    let bench = Bench::new();
    bench.refuses(&["selftest"], 3, "no kernel in the cache has KUnit");
    let kernel = bench.path("kernel").display().to_string();
    bench.refuses(&["selftest", "--kernel", &kernel], 3, "cannot run the self-tests");
    bench.refuses(&["selftest", "--kernel", &kernel], 3, "CONFIG_KUNIT=y");
    // Nothing was left behind by what did not begin.
    assert!(!bench.path("plugstorm-out").exists());
}

#[test]
fn what_is_not_there_is_named() {
    let bench = Bench::new();
    bench.refuses(&["selftest", "--kernel", "/no/such/kernel"], 2, "/no/such/kernel");
    bench.refuses(&["selftest", "--kernel", "debian-6.12"], 2, "kernel fetch debian-6.12");
    bench.refuses(&["selftest", "--design", "magic"], 2, "there is no such design");
}
