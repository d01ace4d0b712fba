//! The kernel's uevents: its netlink socket and the text in its datagrams (lib/kobject_uevent.c).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

/// Bytes of uevents that the kernel keeps for us: thousands of them, so that a burst survives a busy agent.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// The kernel's own limit of a uevent's text is 2048 bytes of variables (`UEVENT_BUFFER_SIZE`) and the path before them.
const DATAGRAM_BYTES: usize = 8192;

/// The multicast group in which the kernel itself speaks; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;

/// A uevent as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uevent {
    /// `ACTION`.
    pub(crate) action: String,
    /// `DEVPATH`.
    pub(crate) devpath: String,
    /// `SUBSYSTEM`.
    pub(crate) subsystem: String,
    /// `DRIVER`.
    pub(crate) driver: Option<String>,
    /// `DEVNAME`.
    pub(crate) devname: Option<String>,
}

/// What [`UeventSocket::next`] found.
#[derive(Debug)]
pub(crate) enum Received {
    /// A uevent.
    Uevent(Uevent),
    /// The kernel had to throw uevents away (`ENOBUFS`).
    Lost,
    /// Nothing more for now.
    Nothing,
    /// The socket failed.
    Failed(Errno),
}

/// The socket on which the kernel tells of its devices.
#[derive(Debug)]
pub(crate) struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Opens it. From then on no uevent is missed, but for [`Received::Lost`].
    pub(crate) fn open() -> nix::Result<Self> {
        let descriptor = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        setsockopt(&descriptor, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(descriptor))
    }

    /// Takes the next uevent; does not wait.
    pub(crate) fn next(&self) -> Received {
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            match recv(self.0.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
                Ok(length) => {
                    // One that cannot be read (udev's form, a cut one) is not ours to report.
                    if let Some(uevent) = parse(datagram.get(..length).unwrap_or_default()) {
                        return Received::Uevent(uevent);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Nothing,
                Err(Errno::ENOBUFS) => return Received::Lost,
                Err(errno) => return Received::Failed(errno),
            }
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a datagram: `ACTION@DEVPATH`, then `KEY=VALUE` strings, each with a zero byte at its end.
fn parse(datagram: &[u8]) -> Option<Uevent> {
    let mut strings = datagram.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let title = strings.next()?;
    let (action, devpath) = title.split_once('@')?;
    let mut uevent = Uevent {
        action: action.to_owned(),
        devpath: devpath.to_owned(),
        subsystem: String::new(),
        driver: None,
        devname: None,
    };
    for string in strings {
        match string.split_once('=') {
            Some(("SUBSYSTEM", value)) => value.clone_into(&mut uevent.subsystem),
            Some(("DRIVER", value)) => uevent.driver = Some(value.to_owned()),
            Some(("DEVNAME", value)) => uevent.devname = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(uevent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_of_the_kernel_is_read() {
        let datagram = b"add@/devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/gpiochip1\0ACTION=add\0\
            DEVPATH=/devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/gpiochip1\0SUBSYSTEM=gpio\0MAJOR=254\0\
            MINOR=1\0DEVNAME=gpiochip1\0DEVTYPE=gpio_chip\0SEQNUM=1234\0";
        let uevent = parse(datagram).unwrap();
        assert_eq!(uevent.action, "add");
        assert_eq!(uevent.devpath, "/devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/gpiochip1");
        assert_eq!(uevent.subsystem, "gpio");
        assert_eq!(uevent.devname.as_deref(), Some("gpiochip1"));
        assert_eq!(uevent.driver, None);
    }

    #[test]
    fn a_driver_is_read() {
        let uevent = parse(b"bind@/devices/x\0ACTION=bind\0SUBSYSTEM=pci\0DRIVER=virtio-pci\0").unwrap();
        assert_eq!(uevent.driver.as_deref(), Some("virtio-pci"));
    }

    #[test]
    fn what_udev_says_is_none_of_ours() {
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b""), None);
    }
}
