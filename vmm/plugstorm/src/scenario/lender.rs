//! The device that lends a line to a hammer of another one.

use plugstorm_wire::Operation;

use super::check::{find, no_such_line};
use super::table::{DeviceTable, HammerTable};
use super::{Device, Driver, Mistake};

/// The device that lends a line to a hammer that borrows one.
pub(super) fn check(
    table: &HammerTable,
    device_tables: &[DeviceTable],
    devices: &[Device],
    mistakes: &mut Vec<Mistake>,
) -> Option<usize> {
    let borrows = table.operations().iter().find(|operation| *operation.get_ref() == Operation::BorrowGet);
    let name = match (borrows, &table.from) {
        (None, None) => return None,
        (Some(_), Some(name)) => name,
        (Some(operation), None) => {
            mistakes.push(Mistake::new(
                operation.span(),
                "`borrow-get` needs a device to borrow a line from",
                "name it with `from`: a device with driver = \"plugstorm\"",
            ));
            return None;
        }
        (None, Some(name)) => {
            mistakes.push(Mistake::new(
                name.span(),
                "`from` has no meaning without the operation `borrow-get`",
                "leave it out",
            ));
            return None;
        }
    };
    let names = device_tables.iter().map(|device| device.name.get_ref().as_str());
    let index = find(name, names, "device", mistakes)?;
    let (device, device_table) = (devices.get(index)?, device_tables.get(index)?);
    if !matches!(device.driver, Driver::Plugstorm(_)) {
        mistakes.push(Mistake::new(
            name.span(),
            format!("device `{}` lends no lines: it is not of our module", device.name),
            "name a device with driver = \"plugstorm\"",
        ));
    }
    // The line that is borrowed is the first of those the hammer works on.
    let line = table.lines.as_ref().and_then(|lines| lines.get_ref().first());
    if let Some(line) = line.filter(|line| *line.get_ref() >= u64::from(device.lines)) {
        mistakes.push(no_such_line(line, &device_table.name, u64::from(device.lines)));
    }
    Some(index)
}
