//! How many TCP connections to a guest's port 22 a capture file has:
//! `connections FILE` reads what QEMU's `filter-dump` wrote, the format of pcap-savefile(5).
//!
//! A connection is one port of the sender, as QEMU sends a SYN again that the guest does not answer.

use std::collections::BTreeSet;

const FILE_HEADER_LEN: usize = 24;
const PACKET_HEADER_LEN: usize = 16;
const ETHERNET_HEADER_LEN: usize = 14;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const SYN_OR_ACK: u8 = 0x12;

/// The sender's port, if the frame begins a connection to port 22 over IPv4.
fn opened_from(frame: &[u8]) -> Option<u16> {
    let ip = frame.get(ETHERNET_HEADER_LEN..)?;
    let tcp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let begins = frame.get(12..14)? == [0x08, 0x00]
        && *ip.get(9)? == TCP
        && *tcp.get(13)? & SYN_OR_ACK == SYN
        && port(2)? == 22;
    if begins { port(0) } else { None }
}

fn main() {
    let file = std::env::args().nth(1).expect("FILE");
    let capture = std::fs::read(file).expect("the capture file");
    let mut rest = capture.get(FILE_HEADER_LEN..).expect("its header");
    let mut ports = BTreeSet::new();
    while let Some(header) = rest.get(..PACKET_HEADER_LEN) {
        let len = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some(frame) = rest.get(PACKET_HEADER_LEN..PACKET_HEADER_LEN + len) else { break };
        ports.extend(opened_from(frame));
        rest = &rest[PACKET_HEADER_LEN + len..];
    }
    println!("{}", ports.len());
}
