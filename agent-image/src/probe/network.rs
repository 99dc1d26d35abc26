//! What can be reached.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::outcome;

/// Without a route the kernel answers at once; this is for the case that there is one.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);

/// Said of a connection that was not tried.
const NOT_TRIED: &str = "not_tried";

/// The names of all network interfaces; `None` when they cannot be seen.
pub fn interfaces() -> Option<Vec<String>> {
    super::text("/proc/self/net/dev").map(|table| parse_interfaces(&table))
}

fn parse_interfaces(table: &str) -> Vec<String> {
    table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// How many routes there are; `None` when they cannot be seen.
pub fn routes() -> Option<usize> {
    super::text("/proc/self/net/route").map(|table| table.lines().skip(1).count())
}

/// Tries to reach the metadata service, the internet and the bridge's gateway. Only where nothing but loopback exists:
/// with another interface the answer is known, and nobody's network is probed by accident.
pub fn connects(interfaces: Option<&[String]>) -> BTreeMap<&'static str, String> {
    let sealed = interfaces.is_some_and(|names| names.iter().all(|name| name == "lo"));
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    let internet = SocketAddr::from(([1, 1, 1, 1], 53));
    let internet6 = SocketAddr::from(([0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111], 53));
    let gateway = SocketAddr::from(([172, 17, 0, 1], 2375));
    let plan = [
        ("tcp 169.254.169.254", "udp 169.254.169.254", metadata),
        ("tcp 1.1.1.1", "udp 1.1.1.1", internet),
        ("tcp 2606:4700:4700::1111", "udp 2606:4700:4700::1111", internet6),
        ("tcp 172.17.0.1", "udp 172.17.0.1", gateway),
    ];
    plan.into_iter()
        .flat_map(|(by_tcp, by_udp, to)| {
            let answers = if sealed { [tcp(to), udp(to)] } else { [NOT_TRIED.to_owned(), NOT_TRIED.to_owned()] };
            [by_tcp, by_udp].into_iter().zip(answers)
        })
        .collect()
}

fn tcp(to: SocketAddr) -> String {
    outcome(TcpStream::connect_timeout(&to, CONNECT_LIMIT))
}

/// Connecting a datagram socket looks for a route and sends nothing.
fn udp(to: SocketAddr) -> String {
    let from: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    outcome(UdpSocket::bind(from).and_then(|socket| socket.connect(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0:    1306      15    0    0    0     0          0         0        0       0    0    0    0     0       0          0
";

    #[test]
    fn interfaces_are_read_by_name() {
        assert_eq!(parse_interfaces(DEV), ["lo", "eth0"]);
    }

    #[test]
    fn nothing_is_tried_where_there_is_a_network_or_where_that_is_unknown() {
        let names = [String::from("lo"), String::from("eth0")];
        for interfaces in [Some(&names[..]), None] {
            assert!(connects(interfaces).values().all(|answer| answer == NOT_TRIED));
        }
    }
}
