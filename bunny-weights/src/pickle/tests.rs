use std::fs;

use super::*;
use crate::files::tests::fixture;

/// An entry of an archive.
struct Entry<'a> {
    name: &'a str,
    bytes: &'a [u8],
    method: u16,
    flags: u16,
    wide: bool,
}

fn stored<'a>(name: &'a str, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        name,
        bytes,
        method: 0,
        flags: 0,
        wide: false,
    }
}

/// A zip archive, written after its specification (PKWARE's APPNOTE, 4.3 and 4.5.3).
fn zip(entries: &[Entry<'_>]) -> Bytes {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for Entry {
        name,
        bytes,
        method,
        flags,
        wide,
    } in entries
    {
        let place = file.len() as u64;
        let size = bytes.len() as u64;
        let narrow = |number: u64| if *wide { u32::MAX } else { number as u32 };
        file.extend(b"PK\x03\x04\x14\0");
        file.extend([flags.to_le_bytes(), method.to_le_bytes()].concat());
        // Time, checksum, and sizes, which readers take from the directory.
        file.extend([0; 16]);
        file.extend((name.len() as u16).to_le_bytes());
        // Torch pads with an extra field, which the directory does not repeat.
        file.extend(5u16.to_le_bytes());
        file.extend(name.bytes());
        file.extend(b"FB\x01\0Z");
        file.extend(*bytes);

        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        directory.extend([flags.to_le_bytes(), method.to_le_bytes()].concat());
        directory.extend([0; 8]);
        directory.extend(narrow(size).to_le_bytes());
        directory.extend(narrow(size).to_le_bytes());
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend(if *wide { 28u16 } else { 0 }.to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(narrow(place).to_le_bytes());
        directory.extend(name.bytes());
        if *wide {
            directory.extend([1u16.to_le_bytes(), 24u16.to_le_bytes()].concat());
            directory.extend([size, size, place].map(u64::to_le_bytes).concat());
        }
    }
    let wide = entries.iter().any(|entry| entry.wide);
    let (start, size) = (file.len() as u64, directory.len() as u64);
    file.extend(directory);
    if wide {
        let end = file.len() as u64;
        let count = entries.len() as u64;
        file.extend(b"PK\x06\x06");
        file.extend(44u64.to_le_bytes());
        file.extend([0; 12]);
        file.extend([count, count, size, start].map(u64::to_le_bytes).concat());
        file.extend(b"PK\x06\x07\0\0\0\0");
        file.extend(end.to_le_bytes());
        file.extend(1u32.to_le_bytes());
    }
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([entries.len() as u16; 2].map(u16::to_le_bytes).concat());
    let end = if wide {
        [u32::MAX; 2]
    } else {
        [size as u32, start as u32]
    };
    file.extend(end.map(u32::to_le_bytes).concat());
    file.extend([0; 2]);
    file.into()
}

fn text(text: &str) -> Vec<u8> {
    [
        &b"X"[..],
        &(text.len() as u32).to_le_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

fn int(number: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &number.to_le_bytes()].concat()
}

fn sizes(sizes: &[i64]) -> Vec<u8> {
    let numbers: Vec<u8> = sizes.iter().flat_map(|&size| int(size)).collect();
    [b"(", &numbers[..], b"t"].concat()
}

/// A tensor of 32-bit floats in the storage "0".
fn tensor(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(elements),
        b"tQ".to_vec(),
        int(offset),
        sizes(shape),
        sizes(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// A pickle of `{"w": value}`.
fn dict(value: &[u8]) -> Vec<u8> {
    [&b"\x80\x02}("[..], &text("w"), value, b"u."].concat()
}

fn open_pickle(pickle: &[u8]) -> Result<State, PickleError> {
    open(&zip(&[
        stored("a/data.pkl", pickle),
        stored("a/data/0", &[0; 24]),
    ]))
}

fn fault(pickle: &[u8]) -> PickleError {
    open_pickle(pickle).unwrap_err()
}

#[test]
fn a_state_dict_made_by_hand_is_read() {
    let state = open_pickle(&dict(&tensor(6, 2, &[2, 2], &[2, 1]))).unwrap();
    assert_eq!(state.tensors["w"].shape(), [2, 2]);
    assert_eq!(state.tensors["w"].contiguous().unwrap().len(), 16);
}

#[test]
fn code_is_refused_whatever_way_it_is_asked_for() {
    let expected = PickleError::Global {
        module: "os".into(),
        name: "system".into(),
    };
    let arguments = [b"(", &text("true")[..], b"tR"].concat();
    assert_eq!(
        fault(&dict(&[b"cos\nsystem\n", &arguments[..]].concat())),
        expected
    );
    let by_text = [&text("os")[..], &text("system"), b"\x93", &arguments].concat();
    assert_eq!(fault(&dict(&by_text)), expected);
    // What is on the list may not be called otherwise than torch calls it.
    let call = |function: &str| fault(&dict(&[function.as_bytes(), &arguments[..]].concat()));
    for function in [
        "ccollections\nOrderedDict\n",
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch._utils\n_rebuild_parameter\n",
        "ctorch\nFloatStorage\n",
        "ctorch\nfloat16\n",
        "N",
    ] {
        assert!(
            matches!(call(function), PickleError::Damaged { .. }),
            "{function}"
        );
    }
}

#[test]
fn instructions_that_no_state_dict_needs_are_refused() {
    for opcode in 0..=255u8 {
        let known = b"(.GJKMNQRXabcehjqrstu]})\x80\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95";
        if !known.contains(&opcode) {
            assert_eq!(
                fault(&[0x80, 2, opcode]),
                PickleError::Opcode { opcode, at: 2 }
            );
        }
    }
}

#[test]
fn a_pickle_that_is_cut_is_refused_wherever_it_is() {
    let whole = dict(&tensor(6, 2, &[2, 2], &[2, 1]));
    for length in 0..whole.len() {
        assert!(
            matches!(fault(&whole[..length]), PickleError::Cut { .. }),
            "{length}"
        );
    }
}

#[test]
fn instructions_without_what_they_work_on_are_refused() {
    for pickle in [
        &b"."[..],
        b"a",
        b"e",
        b"s",
        b"u",
        b"b",
        b"t",
        b"R",
        b"Q",
        b"q\0",
        b"h\0",
        b"\x85",
        b"\x93",
        b"\x94",
        b"(.",
        b"]N(s",
        b"NNa.",
        b"N(NNu.",
        b"}(Nu.",
        b"NNb.",
        b"NQ.",
        b"]K\x01(NR.",
    ] {
        assert!(
            matches!(fault(pickle), PickleError::Damaged { .. }),
            "{pickle:?}"
        );
    }
    let not_text = [&b"X\x01\0\0\0\xff"[..], b"."].concat();
    assert!(matches!(fault(&not_text), PickleError::Damaged { .. }));
}

#[test]
fn nesting_and_circles_do_no_harm() {
    let deep = [&b")"[..], &b"\x85".repeat(1 << 20), b"."].concat();
    assert_eq!(fault(&deep), PickleError::NotAStateDict { kind: "a tuple" });
    let circle = dict(b"]q\0h\0a");
    let expected = PickleError::NotATensor {
        name: "w".into(),
        kind: "a list",
    };
    assert_eq!(fault(&circle), expected);
}

#[test]
fn a_pickle_that_builds_more_than_any_real_one_is_refused() {
    for many in [&b"]"[..], b"K\x01", b"N", b"("] {
        let pickle = many.repeat((4 << 20) + 8);
        let unit = "values";
        assert_eq!(
            fault(&pickle),
            PickleError::TooLarge {
                limit: 4 << 20,
                unit
            }
        );
    }
    let long = 65u32 << 20;
    let pickle = [
        &b"X"[..],
        &long.to_le_bytes(),
        &vec![b'x'; long as usize],
        b".",
    ]
    .concat();
    assert_eq!(
        fault(&pickle),
        PickleError::TooLarge {
            limit: 64 << 20,
            unit: "bytes"
        }
    );
    let dimensions = dict(&tensor(6, 0, &[1; 9], &[1; 9]));
    assert_eq!(
        fault(&dimensions),
        PickleError::Dimensions { found: 9, limit: 8 }
    );
}

#[test]
fn a_tensor_lies_within_its_storage() {
    let tensor_fault =
        |offset, shape: &[i64], strides: &[i64]| fault(&dict(&tensor(6, offset, shape, strides)));
    let beyond = || PickleError::BeyondStorage {
        tensor: "w".into(),
        elements: 6,
    };
    for (offset, shape, strides) in [
        (1, &[2, 3][..], &[3, 1][..]),
        (6, &[], &[]),
        (i64::MAX, &[1], &[1]),
        (0, &[i64::MAX], &[i64::MAX]),
        (0, &[2], &[i64::MAX]),
        (0, &[1 << 32, 1 << 32], &[1, 1]),
    ] {
        assert_eq!(tensor_fault(offset, shape, strides), beyond(), "{shape:?}");
    }
    let expanded = PickleError::Expanded { tensor: "w".into() };
    assert_eq!(tensor_fault(0, &[7], &[0]), expanded);
    assert_eq!(tensor_fault(0, &[i64::MAX, i64::MAX], &[0, 0]), expanded);
    for (offset, shape, strides) in [
        (-1, &[1][..], &[1][..]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2], &[1, 1]),
    ] {
        let layout = PickleError::Layout {
            tensor: "w".into(),
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
        };
        assert_eq!(tensor_fault(offset, shape, strides), layout);
    }
}

#[test]
fn a_storage_has_the_bytes_that_the_pickle_says() {
    for elements in [5, 7, i64::MAX] {
        let expected = (elements as u64).saturating_mul(4);
        let storage = "0".to_string();
        assert_eq!(
            fault(&dict(&tensor(elements, 0, &[1], &[1]))),
            PickleError::StorageSize {
                storage,
                expected,
                found: 24
            }
        );
    }
    assert!(matches!(
        fault(&dict(&tensor(-1, 0, &[1], &[1]))),
        PickleError::Damaged { .. }
    ));
    let pickle = dict(&tensor(6, 0, &[1], &[1]));
    let without = open(&zip(&[stored("a/data.pkl", &pickle)])).unwrap_err();
    assert_eq!(without, PickleError::MissingEntry { entry: "0".into() });
}

#[test]
fn a_name_given_twice_is_refused() {
    let one = [&text("w")[..], &tensor(6, 0, &[1], &[1])].concat();
    let pickle = [&b"}("[..], &one, &one, b"u."].concat();
    assert_eq!(
        fault(&pickle),
        PickleError::DuplicateTensor { tensor: "w".into() }
    );
}

#[test]
fn archives_with_wide_fields_are_read() {
    let pickle = dict(&tensor(6, 0, &[2, 3], &[3, 1]));
    let contents: Vec<u8> = (0..24).collect();
    for wide in [false, true] {
        let archive = zip(&[
            Entry {
                wide,
                ..stored("a/data.pkl", &pickle)
            },
            Entry {
                wide,
                ..stored("a/byteorder", b"little")
            },
            Entry {
                wide,
                ..stored("a/data/0", &contents)
            },
        ]);
        let state = open(&archive).unwrap();
        assert_eq!(state.tensors["w"].contiguous().unwrap(), contents);
        // A comment may follow.
        let mut commented = archive.to_vec();
        let end = commented.len();
        commented[end - 2..].copy_from_slice(&3u16.to_le_bytes());
        commented.extend(b"PK!");
        assert!(open(&commented.into()).is_ok());
    }
}

#[test]
fn an_archive_that_is_not_as_torch_writes_it_is_refused() {
    let pickle = dict(&tensor(6, 0, &[1], &[1]));
    let with = |entry| {
        let zeros = [0; 24];
        open(&zip(&[
            stored("a/data.pkl", &pickle),
            stored("a/data/0", &zeros),
            entry,
        ]))
        .unwrap_err()
    };
    let compressed = || PickleError::Compressed {
        entry: "a/x".into(),
    };
    assert_eq!(
        with(Entry {
            method: 8,
            ..stored("a/x", b"x")
        }),
        compressed()
    );
    assert_eq!(
        with(Entry {
            flags: 1,
            ..stored("a/x", b"x")
        }),
        compressed()
    );
    assert_eq!(with(stored("a/byteorder", b"big")), PickleError::BigEndian);
    assert_eq!(
        with(stored("a/constants.pkl", b"")),
        PickleError::TorchScript
    );
    let twice = PickleError::Archive {
        reason: "an entry occurs twice",
    };
    assert_eq!(with(stored("a/data/0", b"")), twice);
    let none = open(&zip(&[stored("a/x", b"")])).unwrap_err();
    assert_eq!(
        none,
        PickleError::MissingEntry {
            entry: "data.pkl".into()
        }
    );
    assert_eq!(
        open(&Bytes::from_static(b"x")).unwrap_err(),
        PickleError::NotTorch
    );
    assert_eq!(open(&Bytes::new()).unwrap_err(), PickleError::NotTorch);
}

#[test]
fn files_that_are_cut_are_refused_wherever_they_are() {
    for name in ["every_dtype.pt", "legacy.pt"] {
        let whole = Bytes::from(fs::read(fixture(name)).unwrap());
        assert!(open(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(open(&whole.slice(..length)).is_err(), "{name} {length}");
        }
    }
}

#[test]
fn the_older_format_says_when_it_is_big_endian() {
    let mut file = fs::read(fixture("legacy.pt")).unwrap();
    let word = b"little_endian";
    let at = file
        .windows(word.len())
        .position(|window| window == word)
        .unwrap()
        + word.len();
    let truth = file[at..].iter().position(|&byte| byte == 0x88).unwrap();
    file[at + truth] = 0x89;
    assert_eq!(open(&file.into()).unwrap_err(), PickleError::BigEndian);
}
