//! Group 6: UTF-8, good and bad, whole and cut up.

use agentbot_tests::{RawFrame, opcode};

use super::cases::{Case, SHAPE, case, request_with};

const GOOD: &[(&str, &[u8])] = &[
    ("Greek", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"),
    ("all of ASCII that JSON takes", b" !#$%&'()*+,-./0123456789:;<=>?@AZ[]^_`az{|}~\x7f"),
    ("U+0080", b"\xc2\x80"),
    ("U+07FF", b"\xdf\xbf"),
    ("U+0800", b"\xe0\xa0\x80"),
    ("U+D7FF", b"\xed\x9f\xbf"),
    ("U+E000", b"\xee\x80\x80"),
    ("U+FFFD", b"\xef\xbf\xbd"),
    ("U+FFFE, no character", b"\xef\xbf\xbe"),
    ("U+FFFF, no character", b"\xef\xbf\xbf"),
    ("U+10000", b"\xf0\x90\x80\x80"),
    ("U+1FFFF, no character", b"\xf0\x9f\xbf\xbf"),
    ("U+10FFFF", b"\xf4\x8f\xbf\xbf"),
    ("right to left", b"\xe2\x80\xae\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d"),
];

const BAD: &[(&str, &[u8])] = &[
    ("a continuation alone", b"\x80"),
    ("another continuation alone", b"\xbf"),
    ("seven continuations", b"\x80\xbf\x80\xbf\x80\xbf\x80"),
    ("a lead of two without the second", b"\xc3 "),
    ("a lead of three without the second", b"\xe1 "),
    ("a lead of four without the second", b"\xf1 "),
    ("a lead of three without the third", b"\xe1\xbd "),
    ("a lead of four without the fourth", b"\xf1\x80\x80 "),
    ("FE", b"\xfe"),
    ("FF", b"\xff"),
    ("FE FE FF FF", b"\xfe\xfe\xff\xff"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    ("F5", b"\xf5\x80\x80\x80"),
    ("an overlong slash of two", b"\xc0\xaf"),
    ("an overlong slash of three", b"\xe0\x80\xaf"),
    ("an overlong slash of four", b"\xf0\x80\x80\xaf"),
    ("the highest overlong of two", b"\xc1\xbf"),
    ("the highest overlong of three", b"\xe0\x9f\xbf"),
    ("the highest overlong of four", b"\xf0\x8f\xbf\xbf"),
    ("an overlong NUL", b"\xc0\x80"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last high surrogate", b"\xed\xaf\xbf"),
    ("the first low surrogate", b"\xed\xb0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
    ("Greek with a surrogate in it", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80edited"),
];

/// Each sequence as part of a message.
pub fn sequences() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in GOOD {
        let (text, answer) = request_with(bytes);
        let whole = [RawFrame::text(text.clone())];
        cases.push(case(format!("6 good: {name}"), whole, std::slice::from_ref(&answer)));
        cases.push(case(format!("6 good, byte for byte a fragment: {name}"), by_byte(&text), &[answer]));
    }
    for (name, bytes) in BAD {
        let (text, _) = request_with(bytes);
        cases.push(case(format!("6 bad: {name}"), [RawFrame::text(text.clone())], &[SHAPE]));
        cases.push(case(format!("6 bad, byte for byte a fragment: {name}"), by_byte(&text), &[SHAPE]));
    }
    cases
}

fn by_byte(text: &[u8]) -> Vec<RawFrame> {
    let last = text.len() - 1;
    let fragment = |(at, byte): (usize, &u8)| {
        let frame = RawFrame::new(if at == 0 { opcode::TEXT } else { opcode::CONTINUATION }, [*byte]);
        if at == last { frame } else { frame.not_last() }
    };
    text.iter().enumerate().map(fragment).collect()
}

/// Where a message ends or breaks off in the middle of a character.
pub fn at_borders() -> Vec<Case> {
    let (mut text, _) = request_with(b"");
    text.push(0xce);
    let begun = RawFrame::text(b"\"\xce\xba\xe1".to_vec()).not_last();
    vec![
        case("6.3 a message that ends within a character", [RawFrame::text(text)], &[SHAPE]),
        // Nobody need wait for the end of a message that is lost already.
        case(
            "6.4 bad bytes in a fragment that is not the last",
            [RawFrame::text(b"\"\xce\xba\xed\xa0\x80".to_vec()).not_last()],
            &[SHAPE],
        ),
        case(
            "6.4 bad bytes across two fragments",
            [begun, RawFrame::new(opcode::CONTINUATION, b"\xff".to_vec()).not_last()],
            &[SHAPE],
        ),
        case(
            "6.5 half a surrogate in JSON's own spelling",
            {
                let (text, _) = request_with(br"\ud800");
                [RawFrame::text(text)]
            },
            &[SHAPE],
        ),
        case(
            "6.6 NUL itself in a JSON text",
            {
                let (text, _) = request_with(b"\0");
                [RawFrame::text(text)]
            },
            &[SHAPE],
        ),
    ]
}
