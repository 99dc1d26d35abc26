use super::*;

const OWN: &[u8] = b"127.0.0.1:7171";

fn gate() -> Gate {
    let hosts = ["agents.example.org", "Proxy.example.org:8443"].map(|host| Authority::parse(host).unwrap());
    let origins = ["https://app.example.org", "http://localhost:3000"].map(|page| Origin::parse(page).unwrap());
    Gate::new("127.0.0.1:7171".parse().unwrap(), &hosts, &origins)
}

fn judge(hosts: &[&[u8]], origins: &[&[u8]]) -> Result<(), Refused> {
    gate().judge(None, hosts.iter().copied(), origins.iter().copied())
}

#[test]
fn each_host_is_let_in_or_not() {
    let table: &[(&[u8], bool)] = &[
        // By our own address and the names of this host, with our port or none.
        (OWN, true),
        (b"127.0.0.1", true),
        (b"localhost", true),
        (b"LocalHost:7171", true),
        (b"[::1]", true),
        (b"[::1]:7171", true),
        (b"[0:0:0:0:0:0:0:1]:7171", true),
        // As the configuration adds.
        (b"agents.example.org", true),
        (b"AGENTS.example.ORG:7171", true),
        (b"proxy.example.org:8443", true),
        // Another port.
        (b"127.0.0.1:80", false),
        (b"localhost:71710", false),
        (b"localhost:7172", false),
        (b"[::1]:1", false),
        (b"agents.example.org:443", false),
        (b"proxy.example.org", false),
        (b"proxy.example.org:7171", false),
        // Somebody else's name.
        (b"evil.example", false),
        (b"localhost.evil.example", false),
        (b"localhost.evil.example:7171", false),
        (b"evil-localhost", false),
        (b"agents.example.org.evil.example", false),
        (b"x.agents.example.org", false),
        (b"127.0.0.1.evil.example:7171", false),
        // The same address by other words.
        (b"localhost.", false),
        (b"localhost.:7171", false),
        (b"127.0.0.1.", false),
        (b"127.1", false),
        (b"0x7f.0.0.1", false),
        (b"2130706433", false),
        (b"127.0.0.2:7171", false),
        (b"0.0.0.0:7171", false),
        (b"[::]:7171", false),
        (b"[::ffff:127.0.0.1]:7171", false),
        (b"[::1%25lo]:7171", false),
        (b"::1", false),
        (b"[::1", false),
        (b"[::1]x", false),
        (b"[localhost]", false),
        // What is no host at all.
        (b"", false),
        (b" localhost", false),
        (b"localhost ", false),
        (b"localhost:", false),
        (b"localhost:07171", false),
        (b"localhost:+7171", false),
        (b"localhost:7171:7171", false),
        (b"localhost:99999", false),
        (b"user@localhost", false),
        (b"localhost@evil.example", false),
        (b"localhost,evil.example", false),
        (b"localhost/evil", false),
        (b"http://localhost", false),
        (b"localhost\0", false),
        (b"loc\xe4lhost", false),
        (b"*", false),
        (b"null", false),
    ];
    for (host, allowed) in table {
        let verdict = judge(&[host], &[]);
        let wanted = if *allowed { Ok(()) } else { Err(Refused::Host) };
        assert_eq!(verdict, wanted, "{}", String::from_utf8_lossy(host));
    }
}

#[test]
fn each_origin_is_let_in_or_not() {
    let table: &[(&[u8], bool)] = &[
        // The page that this door itself would have served, and those of the configuration.
        (b"http://127.0.0.1:7171", true),
        (b"https://127.0.0.1:7171", true),
        (b"HTTP://127.0.0.1:7171", true),
        (b"https://app.example.org", true),
        (b"https://app.example.org:443", true),
        (b"http://localhost:3000", true),
        // Other pages of this host.
        (b"http://127.0.0.1", false),
        (b"http://127.0.0.1:3000", false),
        (b"http://localhost:7171", false),
        (b"http://localhost", false),
        (b"https://localhost:3000", false),
        (b"http://[::1]:7171", false),
        // Other pages.
        (b"http://app.example.org", false),
        (b"https://app.example.org:8443", false),
        (b"https://app.example.org.", false),
        (b"https://app.example.org.evil.example", false),
        (b"https://evil.example", false),
        (b"http://localhost.evil.example:7171", false),
        (b"http://127.0.0.1:7171.evil.example", false),
        (b"http://127.0.0.1:7171@evil.example", false),
        (b"http://evil.example@127.0.0.1:7171", false),
        (b"http://user:pass@127.0.0.1:7171", false),
        // What is no page's origin, or hides it.
        (b"null", false),
        (b"", false),
        (b"*", false),
        (b"file://", false),
        (b"file:///etc/passwd", false),
        (b"ws://127.0.0.1:7171", false),
        (b"chrome-extension://127.0.0.1:7171", false),
        (b"127.0.0.1:7171", false),
        (b"http:/127.0.0.1:7171", false),
        (b"http://127.0.0.1:7171/", false),
        (b"http://127.0.0.1:7171/path", false),
        (b"http://127.0.0.1:7171?x", false),
        (b"http://127.0.0.1:7171 http://127.0.0.1:7171", false),
        (b"http://127.0.0.1:7171\xff", false),
    ];
    for (origin, allowed) in table {
        let verdict = judge(&[OWN], &[origin]);
        let wanted = if *allowed { Ok(()) } else { Err(Refused::Origin) };
        assert_eq!(verdict, wanted, "{}", String::from_utf8_lossy(origin));
    }
}

#[test]
fn a_page_must_have_been_had_by_the_very_name_that_is_called() {
    let table: &[(&[u8], &[u8], bool)] = &[
        (b"localhost:7171", b"http://localhost:7171", true),
        (b"localhost:7171", b"http://127.0.0.1:7171", false),
        (b"[::1]:7171", b"http://[::1]:7171", true),
        (b"agents.example.org", b"https://agents.example.org", true),
        (b"agents.example.org", b"http://agents.example.org", true),
        (b"agents.example.org", b"https://agents.example.org:7171", false),
        (b"agents.example.org:7171", b"https://agents.example.org", false),
        (b"proxy.example.org:8443", b"https://proxy.example.org:8443", true),
        (b"proxy.example.org:8443", b"https://agents.example.org", false),
        (b"evil.example", b"http://evil.example", false),
    ];
    for (host, origin, allowed) in table {
        let verdict = judge(&[host], &[origin]);
        assert_eq!(verdict.is_ok(), *allowed, "{} {}", String::from_utf8_lossy(host), String::from_utf8_lossy(origin));
    }
}

#[test]
fn each_header_comes_once_and_agrees_with_the_target() {
    assert_eq!(judge(&[], &[]), Err(Refused::HostCount));
    assert_eq!(judge(&[OWN, OWN], &[]), Err(Refused::HostCount));
    assert_eq!(judge(&[OWN, b"evil.example"], &[]), Err(Refused::HostCount));
    let page: &[u8] = b"http://127.0.0.1:7171";
    assert_eq!(judge(&[OWN], &[page, page]), Err(Refused::OriginCount));
    let target = |target| gate().judge(Some(target), [OWN], []);
    assert_eq!(target("127.0.0.1:7171"), Ok(()));
    for other in ["evil.example", "localhost:7171", "127.0.0.1", "user@127.0.0.1:7171", ""] {
        assert_eq!(target(other), Err(Refused::Host), "{other}");
    }
}

#[test]
fn a_listener_on_one_address_is_called_by_it() {
    let gate = Gate::new("10.1.2.3:80".parse().unwrap(), &[], &[]);
    let judge = |host: &'static [u8], origin: &'static [u8]| gate.judge(None, [host], [origin]);
    assert_eq!(judge(b"10.1.2.3", b"http://10.1.2.3"), Ok(()));
    assert_eq!(judge(b"10.1.2.3:80", b"http://10.1.2.3"), Ok(()), "80 is what http means");
    assert_eq!(judge(b"10.1.2.4", b"http://10.1.2.4"), Err(Refused::Host));
}
