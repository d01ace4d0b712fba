//! The sign that a device can be used.

use plugstorm_wire::node_matches;

use crate::scenario::{Device, Driver};

/// What a uevent says of whether a device can be used: its node has come, or has gone; nothing if it says neither. A driver of the
/// user's that makes no node that is known is ready when it is bound.
pub(super) fn sign_of(
    device: &Device,
    action: &str,
    devpath: &str,
    subsystem: &str,
    devname: Option<&str>,
) -> Option<Option<String>> {
    let node = match (device.driver, &device.node) {
        (Driver::Other { .. }, None) => {
            let name = devpath.rsplit('/').next().filter(|_| subsystem == "virtio")?;
            return match action {
                "bind" => Some(Some(name.to_owned())),
                "unbind" | "remove" => Some(None),
                _ => None,
            };
        }
        (Driver::Other { .. }, Some(pattern)) => devname.filter(|name| node_matches(pattern, &format!("/dev/{name}"))),
        _ => devname.filter(|name| name.starts_with("gpiochip") || name.starts_with("plugstorm")),
    }?;
    match action {
        "add" => Some(Some(node.to_owned())),
        "remove" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_there_when_its_sign_is() {
        let device = |driver, node: Option<&str>| Device {
            name: "mine".into(),
            driver,
            lines: 8,
            signal: None,
            node: node.map(str::to_owned),
        };
        let other = Driver::Other { vendor: 1, subsystem: 2 };
        let path = "/devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3";
        let some = |name: &str| Some(Some(name.to_owned()));
        let mine = device(other, Some("/dev/snd/mine*"));
        assert_eq!(sign_of(&mine, "add", path, "x", Some("snd/mine7")), some("snd/mine7"));
        assert_eq!(sign_of(&mine, "remove", path, "x", Some("snd/mine7")), Some(None));
        assert_eq!(sign_of(&mine, "change", path, "x", Some("snd/mine7")), None);
        assert_eq!(sign_of(&mine, "add", path, "x", Some("mine7")), None);
        assert_eq!(sign_of(&mine, "add", path, "x", None), None);
        let bound = device(other, None);
        assert_eq!(sign_of(&bound, "bind", path, "virtio", None), some("virtio3"));
        assert_eq!(sign_of(&bound, "unbind", path, "virtio", None), Some(None));
        assert_eq!(sign_of(&bound, "remove", path, "virtio", None), Some(None));
        assert_eq!(sign_of(&bound, "bind", path, "pci", None), None);
        assert_eq!(sign_of(&bound, "add", path, "gpio", Some("gpiochip3")), None);
        let gpio = device(Driver::GpioVirtio, None);
        assert_eq!(sign_of(&gpio, "add", path, "gpio", Some("gpiochip3")), some("gpiochip3"));
        assert_eq!(sign_of(&gpio, "bind", path, "virtio", None), None);
    }
}
