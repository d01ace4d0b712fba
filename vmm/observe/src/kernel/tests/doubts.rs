//! Tables and stacks that mislead whoever believes them.

use super::super::btf::Btf;
use super::*;

#[test]
fn structures_without_a_name_in_each_other_are_not_followed_for_ever() {
    let members = [("", 0, 2); 300];
    let bytes = btf(&[("bomb", 8, &members)]);
    let mut memory = Pages::default();
    memory.write(table(3), &bytes);
    let types = Btf::read(&memory, table(3), table(3) + bytes.len() as u64).unwrap();
    assert_eq!(types.offset("bomb", &["x"]), None);
}
