//! Logs and what is made of them.

use super::*;

#[test]
fn addresses_are_moved_back_by_what_the_log_says() {
    let built = Built::new(&["-g"]);
    let (address, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let moved = address + 0x1e60_0000;
    let mut symbolizer = built.symbolizer();
    assert_eq!(symbolizer.at_address(moved + 1, true), None);
    for log in [
        "Kernel Offset: 0x1e600000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)"
            .into(),
        format!("[<{:x}>] gpiochip_remove+0x7/{size:#x}", moved + 7),
    ] {
        assert_eq!(symbolizer.compare(&facts(&log)), [""; 0]);
        let (place, frames) = symbolizer.at_address(moved + 1, true).unwrap();
        assert_eq!((place.function.as_str(), place.offset), ("gpiochip_remove", 1));
        assert_eq!(frames.last().unwrap().function.as_deref(), Some("gpiochip_remove"));
        let text = symbolizer.annotate(&format!("RIP: 0010:{moved:#x}\n {moved:#x}\n 0xffffffffc0000000"));
        assert!(text.contains("(gpiochip_remove+0x0 drivers/gpio/one.c:"), "{text}");
        assert!(text.ends_with(" 0xffffffffc0000000"), "{text}");
    }
    // By less than a kernel can be moved, it was not.
    symbolizer.compare(&facts("Kernel Offset: 0x1234 from 0xffffffff81000000"));
    assert_eq!(symbolizer.at_address(moved + 1, true), None);
}

#[test]
fn a_file_of_another_build_gives_no_lines() {
    let built = Built::new(&["-g"]);
    let mut symbolizer = built.symbolizer();
    let place = built.place("gpiochip_remove", 0, 1);
    let mut compared = |log: &str| {
        let said = symbolizer.compare(&facts(log)).join("\n");
        (said, symbolizer.frames(&place, true))
    };
    let same = "Linux version 6.12.0-test (me@here) (gcc) #1 SMP Mon Nov 23\n\
                CPU: 0 PID: 1 Comm: a Not tainted 6.12.0-test #1\n";
    let (said, located) = compared(&format!("{same}{place}\n"));
    assert_eq!(said, "");
    assert!(matches!(located, Located::Found(_)));
    for (log, reason) in [
        ("CPU: 0 PID: 1 Comm: a Not tainted 6.12.0-other #1", "it is of 6.12.0-test, and the log is of 6.12.0-other"),
        ("Linux version 6.12.0-test (me@here) (gcc) #2 SMP Tue Nov 24", "it was built at another time"),
        ("Linux version 6.1.0 (me@here)", "the log is of 6.1.0"),
        ("CPU: 0 PID: 1 Comm: a 6.12.0-test #1 544e001392145ae8ef0830ddcc03f98dc3098b9f", "its build id is"),
        (" gpiochip_remove+0x1/0x2222", "1 of 1 places in the log are not in it, gpiochip_remove+0x1/0x2222 for one"),
    ] {
        let (said, located) = compared(log);
        assert!(said.contains(reason), "{log}: {said}");
        assert_eq!(located, Located::Unknown(Unknown::OtherBuild), "{log}");
    }
    let (said, _) = compared("fake_remove+0x1/0x2 [gpio_fake]\n");
    assert!(said.contains("gpio-fake.ko is of another build"), "{said}");
    // A file that the log has nothing of is not worth a sentence.
    let (said, _) = compared("CPU: 0 PID: 1 Comm: a Not tainted 6.1.0 #1");
    assert!(!said.contains("gpio-fake.ko") && said.contains("vmlinux"), "{said}");
    let (said, _) = compared(&format!("{same} f+0x1/0x2 [one]\n f+0x1/0x2 [two]\n"));
    assert!(said.contains("no file with debug information for one, two"), "{said}");
    // And the next log may be of the right one.
    assert_eq!(compared(same).0, "");
}

#[test]
fn a_report_is_shown_with_files_and_lines() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let (_, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let report = format!(
        "BUG: KASAN: slab-use-after-free in gpiochip_remove+0x7/{size:#x}\n\
         WARNING: CPU: 0 PID: 1 at drivers/gpio/one.c:13 gpiochip_remove+0x7/{size:#x}\n\
         RIP: 0010:gpiochip_remove+0x0/{size:#x}\n\
         Call Trace:\n\
         \x20<TASK>\n\
         \x20gpiochip_remove+0x7/{size:#x}\n\
         \x20? gpiochip_remove+0x7/{size:#x}\n\
         \x20nobody+0x7/0x999\n\
         \x20fake_remove+0x1/0xff0 [gpio_fake]\n\
         \x20</TASK>\n"
    );
    // Sizes and offsets are the compiler's.
    let annotated = symbolizer.annotate(&report).replace(&format!("/{size:#x}"), "/SIZE");
    insta::assert_snapshot!(annotated);
    let frames = symbolizer.report_frames(&report);
    assert_eq!(frames.len(), 6);
    let json = serde_json::to_string_pretty(&[&frames[2], &frames[4]]).unwrap();
    insta::assert_snapshot!(json.replace(&format!("\"size\": {size}"), "\"size\": SIZE"));
}
