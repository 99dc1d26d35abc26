//! Groups 1 to 4: lengths, pings, reserved bits, opcodes.

use agentbot_tests::{RawFrame, opcode};

use super::cases::{Case, KIND, PROTOCOL, SHAPE, Step, Want, case, request};

/// Group 1: text and binary messages of every way to write a length.
pub fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [70, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        let (text, want) = request(length);
        cases.push(case(format!("1.1 text of {length} bytes"), [RawFrame::text(text)], &[want]));
    }
    for size in [1, 997, 2_048] {
        let (text, want) = request(65_536);
        let send = vec![Step::Chopped(RawFrame::text(text), if size == 1 { 3 } else { size })];
        cases.push(Case { name: format!("1.1 text of 65536 bytes in writes of {size}"), send, want: vec![want] });
    }
    cases.push(case("1.1 text of no byte", [RawFrame::text("")], &[SHAPE]));
    for length in [0, 125, 126, 127, 128, 65_535, 65_536] {
        let frame = RawFrame::new(opcode::BINARY, vec![0xfe; length]);
        cases.push(case(format!("1.2 bytes, {length} of them"), [frame], &[KIND]));
    }
    let (text, _) = request(100);
    cases.push(case("1.3 a client that does not mask", [RawFrame::text(text).unmasked()], &[PROTOCOL]));
    cases
}

/// Group 2: pings and pongs.
pub fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| RawFrame::new(opcode::PING, payload);
    let pong = |payload: &[u8]| RawFrame::new(opcode::PONG, payload);
    let heard = |payload: &[u8]| Want::Pong(payload.to_vec());
    let bytes = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    let ten = || (0..10_u8).map(|number| vec![b'p', number]);
    let slowly = |name: &str, frames: Vec<RawFrame>, want: Vec<Want>| Case {
        name: name.to_owned(),
        send: frames.into_iter().map(Step::Slowly).collect(),
        want,
    };
    vec![
        case("2.1 an empty ping", [ping(b"")], &[heard(b"")]),
        case("2.2 a ping", [ping(b"Hello, world!")], &[heard(b"Hello, world!")]),
        case("2.3 a ping with any bytes", [ping(&bytes)], &[heard(&bytes)]),
        case("2.4 the longest ping", [ping(&[0xfe; 125])], &[heard(&[0xfe; 125])]),
        case("2.5 a ping that is too long", [ping(&[0xfe; 126])], &[PROTOCOL]),
        slowly("2.6 the longest ping byte by byte", vec![ping(&[0xfe; 125])], vec![heard(&[0xfe; 125])]),
        case("2.7 a pong that nobody asked for", [pong(b"")], &[]),
        case("2.8 a pong with a payload", [pong(b"unsolicited")], &[]),
        case("2.9 a pong, then a ping", [pong(b"unsolicited"), ping(b"a question")], &[heard(b"a question")]),
        case("2.10 ten pings", ten().map(|payload| ping(&payload)), &ten().map(Want::Pong).collect::<Vec<_>>()),
        slowly(
            "2.11 ten pings byte by byte",
            ten().map(|payload| ping(&payload)).collect(),
            ten().map(Want::Pong).collect(),
        ),
        case("2.12 a pong that is too long", [pong(&[0xfe; 126])], &[PROTOCOL]),
    ]
}

/// Group 3: reserved bits without an extension that gives them a meaning.
pub fn reserved_bits() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..=7 {
        let (text, answer) = request(100);
        let frame = || RawFrame::text(text.clone());
        cases.push(case(format!("3 text with reserved bits {bits}"), [frame().reserved(bits)], &[PROTOCOL]));
        cases.push(case(
            format!("3 a message, then reserved bits {bits}"),
            [frame(), frame().reserved(bits)],
            &[answer, PROTOCOL],
        ));
    }
    for (kind, name) in [(opcode::BINARY, "binary"), (opcode::PING, "ping"), (opcode::PONG, "pong")] {
        let frame = RawFrame::new(kind, "Hello").reserved(5);
        cases.push(case(format!("3 {name} with reserved bits"), [frame], &[PROTOCOL]));
    }
    cases.push(case("3 close with reserved bits", [RawFrame::close(1000, "").reserved(7)], &[PROTOCOL]));
    let (text, _) = request(100);
    let send = vec![Step::Slowly(RawFrame::text(text).reserved(3))];
    cases.push(Case { name: "3 reserved bits byte by byte".to_owned(), send, want: vec![PROTOCOL] });
    cases
}

/// Group 4: opcodes that mean nothing.
pub fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in (0x3..=0x7).chain(0xb..=0xf) {
        let (text, answer) = request(100);
        cases.push(case(format!("4 opcode {kind}"), [RawFrame::new(kind, "")], &[PROTOCOL]));
        cases.push(case(format!("4 opcode {kind} with a payload"), [RawFrame::new(kind, "payload")], &[PROTOCOL]));
        cases.push(case(
            format!("4 a message, then opcode {kind}"),
            [RawFrame::text(text), RawFrame::new(kind, "payload"), RawFrame::new(opcode::PING, "")],
            &[answer, PROTOCOL],
        ));
    }
    cases
}
