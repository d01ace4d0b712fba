//! What the user brings along: programs as steps, modules that do not load.

use plugstorm_wire::ModuleOutcome;

use super::*;

/// The scenario with a step before all others that runs this program.
fn running(program: &str) -> Ran {
    let step = format!("[[step]]\ndo = \"run\"\nprogram = {program}\ntime-out = \"2s\"\n");
    let text = SCENARIO.replacen("[[step]]", &format!("{step}[[step]]"), 1);
    let scenario = parse(&text, "storm.toml", "storm").unwrap();
    run_with(&scenario, FakeGuest::new(Fault::None), Memory::default(), false)
}

#[test]
fn a_program_that_ends_as_expected_is_an_event() {
    let ran = running("[\"/bin/ok\", \"-v\"]");
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
    let ended: Vec<_> = ran
        .journal
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::ProgramEnded { program, end, ns, output, .. } => Some((program, end, *ns, output)),
            _ => None,
        })
        .collect();
    assert_eq!(ended.len(), 3);
    let (program, end, ns, output) = ended[0];
    assert_eq!((program.as_str(), end.as_str(), ns), ("/bin/ok -v", "exit 0", 5_000_000));
    assert_eq!(output, "one[2J\ntwo\n", "nothing that drives a terminal");
}

#[test]
fn a_program_that_ends_otherwise_is_found() {
    for (program, title) in [
        ("[\"/bin/one\"]", "program /bin/one ended with exit 1, not exit 0"),
        ("[\"/bin/crash\"]", "program /bin/crash ended with SIGSEGV, not exit 0"),
        ("[\"/bin/ok\"]\nexpect = 7", "program /bin/ok ended with exit 0, not exit 7"),
    ] {
        let ran = running(program);
        assert_eq!(ran.verdict, Verdict::Found, "{program}");
        let finding = &ran.outcome.record.findings[0];
        assert_eq!((finding.kind, finding.title.as_str()), (FindingKind::ProgramFailed, title));
        assert!(finding.explanation.ends_with("It wrote:\none[2J\ntwo"), "{}", finding.explanation);
    }
}

#[test]
fn a_program_that_waits_in_the_kernel_is_found_where_it_does() {
    let ran = running("[\"/bin/hang\"]");
    assert_eq!(ran.verdict, Verdict::Found);
    let finding = &ran.outcome.record.findings[0];
    // Not where its parent waits for it.
    assert_eq!(
        (finding.kind, finding.title.as_str()),
        (FindingKind::ProgramStuck, "program /bin/hang does not end: mydev_read")
    );
    assert!(finding.explanation.contains("mydev_read+0x1c/0x2f <- vfs_read"), "{}", finding.explanation);
    assert!((2..6).contains(&seconds_of(&ran)));
}

#[test]
fn a_program_that_only_takes_long_proves_nothing() {
    let ran = running("[\"/bin/loop\"]");
    assert_eq!(ran.verdict, Verdict::Inconclusive);
    assert!(ran.reason.contains("program /bin/loop did not end within 2.0 s"), "{}", ran.reason);
}

#[test]
fn a_program_that_is_not_there_is_the_users_to_mend() {
    let ran = running("[\"/bin/missing\"]");
    assert!(matches!(&ran.outcome.ending, Ending::User(reason) if reason.contains("/bin/missing")));
}

#[test]
fn a_module_of_the_users_that_does_not_load_ends_the_run_and_another_does_not() {
    for (named, ends) in [("my-driver.ko", true), ("other.ko", false)] {
        let text = format!("[guest]\nmodules = [\"x/{named}\"]\n{}", SCENARIO.replacen("cycles = 3", "", 1));
        let scenario = parse(&text, "storm.toml", "storm").unwrap();
        let mut guest = FakeGuest::new(Fault::None);
        let error = Some("cannot load /plugstorm/modules/04-my-driver.ko: ENOENT".to_owned());
        guest.modules = vec![ModuleOutcome { file: "04-my-driver.ko".into(), error }];
        let ran = run_with(&scenario, guest, Memory::default(), false);
        let told = matches!(&ran.outcome.ending, Ending::User(reason) if reason.contains("04-my-driver.ko: ENOENT"));
        assert_eq!(told, ends, "{named}: {}", ran.reason);
        assert_eq!(ran.verdict == Verdict::Inconclusive, ends, "{named}");
    }
}

#[test]
fn a_driver_that_does_not_come_is_asked_for_by_what_it_must_do() {
    let other = "driver = \"other\"\nvendor = 0x1234\nnode = \"/dev/mine*\"";
    let text = SCENARIO.replacen("driver = \"gpio-virtio\"", other, 1).replacen("\"poll\"", "\"read\"", 1);
    let scenario = parse(&text, "storm.toml", "storm").unwrap();
    let ran = run_with(&scenario, FakeGuest::new(Fault::NoNode), Memory::default(), false);
    assert!(ran.reason.ends_with("of vendor 0x1234, and make a node /dev/mine* below it?"), "{}", ran.reason);
}
