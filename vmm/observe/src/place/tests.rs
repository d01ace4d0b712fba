use proptest::prelude::*;

use super::*;

fn only(line: &str) -> Sighting {
    let mut found = sightings(line);
    assert_eq!(found.len(), 1, "{line}: {found:?}");
    found.remove(0)
}

fn place(line: &str) -> Place {
    match only(line).spot {
        Spot::Place(place) => place,
        Spot::Address(address) => panic!("{line}: {address:#x}"),
    }
}

#[test]
fn functions_offsets_sizes_and_modules_are_read() {
    let plain = place(" gpiochip_remove+0x66/0x160");
    assert_eq!((plain.function.as_str(), plain.offset, plain.size), ("gpiochip_remove", 0x66, Some(0x160)));
    let of_module = place("virtio_gpio_remove+0x1d/0x50 [gpio_virtio]");
    assert_eq!(of_module.module.as_deref(), Some("gpio_virtio"));
    assert_eq!(of_module.to_string(), "virtio_gpio_remove+0x1d/0x50 [gpio_virtio]");
    let with_id = place(" f.isra.0+0x1/0x2 [m 544e001392145ae8ef0830ddcc03f98dc3098b9f]");
    assert_eq!(with_id.build_id.as_deref(), Some("544e001392145ae8ef0830ddcc03f98dc3098b9f"));
    assert_eq!((with_id.function.as_str(), with_id.symbol().to_string().as_str()), ("f.isra.0", "f [m]"));
    assert_eq!(place(" f+0x7").size, None);
    // What follows in brackets is not always a module.
    assert_eq!(place(" f+0x1/0x2 [inline function]").module, None);
}

#[test]
fn who_stands_before_a_place_says_what_it_is() {
    for (line, role, reliable) in [
        (" f+0x1/0x2", Role::Frame, true),
        ("[<0>] f+0x1/0x2", Role::Frame, true),
        (" ? f+0x1/0x2", Role::Frame, false),
        (" [<ffffffff81d90469>] ? f+0x1/0x2", Role::Frame, false),
        (" ? [<ffffffff81d90469>] f+0x1/0x2", Role::Frame, false),
        ("[c000000001] [c000000002] f+0x1/0x2 (unreliable)", Role::Frame, false),
        ("RIP: 0010:f+0x1/0x2", Role::Pointer, true),
        ("RIP: 0010:[<ffffffff8144d081>]  [<ffffffff8144d081>] f+0x21/0x80", Role::Pointer, true),
        ("pc : f+0x1/0x2", Role::Pointer, true),
        ("lr : f+0x1/0x2", Role::Mention, true),
        ("WARNING: CPU: 0 PID: 1 at fs/a.c:3 f+0x1/0x2", Role::Pointer, true),
        ("BUG: KASAN: slab-use-after-free in f+0x1/0x2", Role::Mention, true),
        ("BUG: KFENCE: use-after-free read in f+0x1/0x2", Role::Pointer, true),
        ("BUG: KFENCE: invalid read in f+0x1/0x2", Role::Pointer, true),
        ("BUG: KFENCE: invalid free in f+0x1/0x2", Role::Mention, true),
        ("hardirqs last  enabled at (12): [<ffffffff81d90469>] f+0x1/0x2", Role::Mention, true),
    ] {
        let found = only(line);
        assert_eq!((found.role, found.reliable), (role, reliable), "{line}");
    }
}

#[test]
fn a_time_stamp_is_of_no_account() {
    let stamp = "[    8.597453][   T51]";
    assert_eq!(stamp_bytes(&format!("{stamp}  f+0x1/0x2")), stamp.len());
    for (line, role) in [
        ("  f+0x1/0x2", Role::Frame),
        (" RIP: 0010:f+0x1/0x2", Role::Pointer),
        (" BUG: KASAN: x in f+0x1/0x2", Role::Mention),
        ("  0xffffffffc0401234", Role::Frame),
    ] {
        assert_eq!(only(&format!("{stamp}{line}")).role, role, "{line}");
        assert_eq!(only(&format!("[    8.597453]{line}")).role, role, "{line}");
    }
    for line in ["", "[<ffffffff81d90469>] f+0x1/0x2", "[ffffffff81d90469] f+0x1/0x2", "[", "[] f", "no [1.5] f"] {
        assert_eq!(stamp_bytes(line), 0, "{line}");
    }
}

#[test]
fn addresses_beside_names_are_kept_unless_hidden() {
    assert_eq!(only(" [<ffffffff81d90469>] f+0xc1/0x128").address, Some(0xffff_ffff_81d9_0469));
    assert_eq!(only("[<0>] f+0xc1/0x128").address, None);
}

#[test]
fn addresses_without_names_are_frames_where_frames_are() {
    for (line, address, role) in [
        (" 0xffffffffc0401234", 0xffff_ffff_c040_1234, Role::Frame),
        (" ? 0xffffffffc0401234", 0xffff_ffff_c040_1234, Role::Frame),
        (" [<ffffffff81d90469>]", 0xffff_ffff_81d9_0469, Role::Frame),
        ("pc : ffff800080012345", 0xffff_8000_8001_2345, Role::Pointer),
        ("RIP: 0010:0xffffffffc0401234", 0xffff_ffff_c040_1234, Role::Pointer),
    ] {
        let found = only(line);
        assert_eq!((found.spot, found.role), (Spot::Address(address), role), "{line}");
    }
}

#[test]
fn what_is_no_place_is_none() {
    for line in [
        "",
        "+0x",
        "1+0x2/0x3",
        ".L1+0x2/0x3",
        "RIP: 0033:0x7f8a53a23a2b",
        "RSP: 002b:00007f8a53835bb0 EFLAGS: 00000246 ORIG_RAX: 0000000000000010",
        "RAX: ffffffffffffffda RBX: 0000000000000013 RCX: 00007f8a53a23a2b",
        "Read of size 4 at addr ffff888003a7de48 by task consumers/0/51",
        "pci 0000:01:00.0: BAR 0 [mem 0x00000000-0x00007fff]",
        "f+0x11111111111111111/0x2",
    ] {
        assert_eq!(sightings(line), [], "{line}");
    }
    assert_eq!(Place::parse("BUG: KASAN: slab-use-after-free in f+0x1/0x2"), None);
    assert_eq!(Place::parse("gpiochip_remove"), None);
    assert_eq!(Place::parse("[<0>] f+0x1/0x2 [m]").map(|place| place.to_string()).as_deref(), Some("f+0x1/0x2 [m]"));
}

#[test]
fn a_line_may_have_two() {
    let found = sightings(" show_stack+0x1/0x2 from dump_stack+0xa0/0xc0");
    assert_eq!(found.iter().map(|found| found.role).collect::<Vec<_>>(), [Role::Frame, Role::Frame]);
    assert_eq!(sightings(&"f+0x1/0x2 ".repeat(100)).len(), MAX_IN_LINE);
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(line in ".{0,200}") {
        for found in sightings(&line) {
            prop_assert!(line.get(found.range).is_some());
        }
    }

    #[test]
    fn pieces_of_stacks_in_any_order_are_read_without_a_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "+0x", "f", ".", "0x1", "/0x2", " [", "]", "m", "? ", "[<", "ffffffff81d90469", ">]", "RIP: ", "0010:", " ", "é",
            "pc : ", "(", ")", "(unreliable)", "\u{0}", "WARNING: ", "BUG: KFENCE: ", " from ",
        ]), 0..30),
    ) {
        let line = pieces.concat();
        for found in sightings(&line) {
            prop_assert!(line.get(found.range).is_some());
        }
    }

    #[test]
    fn what_is_shown_is_read_again(
        function in "[a-zA-Z_][a-zA-Z0-9_]{0,40}(\\.isra\\.[0-9])?",
        offset: u64,
        size: Option<u64>,
        module in prop::option::of("[a-z_][a-z0-9_]{0,20}"),
    ) {
        let place = Place { function, offset, size, module, build_id: None };
        prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
    }
}
