//! Takes a patch file apart: a plain diff, one mail, or a series of mails in one mbox (`git format-patch --stdout`).

/// A patch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    /// The first line of its subject, where it has one.
    pub(super) subject: Option<String>,
    /// Its text, as patch(1) takes it.
    pub(super) text: Vec<u8>,
}

/// Why a file is no series of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no diff in it.
    Empty,
    /// A mail is in base64 or has several parts.
    Encoded,
    /// It has a binary diff.
    Binary,
}

impl Unfit {
    pub(super) fn problem(self) -> &'static str {
        match self {
            Self::Empty => "has no diff in it: give what `git format-patch --stdout` or `diff -u` makes",
            Self::Encoded => {
                "is encoded as base64 or has attachments: save it with `git am`, and give what `git format-patch \
                 --stdout` makes of it"
            }
            Self::Binary => "has a binary diff, which patch(1) does not take",
        }
    }
}

/// The patches of a file, in order. Mails without a diff, such as a cover letter, are left out.
pub(super) fn split(content: &[u8]) -> Result<Vec<Mail>, Unfit> {
    let mut mails = Vec::new();
    for part in parts(content) {
        let mail = read(part)?;
        if has_diff(&mail.text) {
            if lines(&mail.text).any(|line| line.starts_with(b"GIT binary patch")) {
                return Err(Unfit::Binary);
            }
            mails.push(mail);
        }
    }
    if mails.is_empty() { Err(Unfit::Empty) } else { Ok(mails) }
}

/// The mails of an mbox; a file that is none is one part.
fn parts(content: &[u8]) -> Vec<&[u8]> {
    let mut starts = vec![0];
    let mut at = 0;
    let mut blank = true;
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if blank && is_separator(line) {
            starts.push(at);
        }
        blank = line.trim_ascii().is_empty();
        at += line.len();
    }
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([content.len()]);
    let parts = starts.iter().zip(ends).filter_map(|(&from, to)| content.get(from..to));
    parts.filter(|part| !part.trim_ascii().is_empty()).collect()
}

/// `From SENDER Mon Sep 17 00:00:00 2001`: with a time, for a sentence may begin with the word too.
fn is_separator(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let Some(rest) = line.strip_prefix("From ") else { return false };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let is_time =
        |word: &&str| word.len() == 8 && word.split(':').filter(|part| part.parse::<u8>().is_ok()).count() == 3;
    let is_year = |word: &&str| word.len() == 4 && word.parse::<u16>().is_ok();
    words.iter().any(is_time) && words.iter().any(is_year)
}

fn read(part: &[u8]) -> Result<Mail, Unfit> {
    let separator = lines(part).next().filter(|line| is_separator(line)).map_or(0, <[u8]>::len);
    let rest = part.get(separator..).unwrap_or_default();
    let Some((headers, body)) = headers(rest) else { return Ok(Mail { subject: None, text: part.to_vec() }) };
    let field = |name: &str| headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let subject = field("Subject").cloned();
    let is_multipart = field("Content-Type").is_some_and(|value| value.to_ascii_lowercase().starts_with("multipart/"));
    let encoding = field("Content-Transfer-Encoding").map(|value| value.trim().to_ascii_lowercase());
    match encoding.as_deref() {
        _ if is_multipart => Err(Unfit::Encoded),
        Some("base64") => Err(Unfit::Encoded),
        Some("quoted-printable") => Ok(Mail { subject, text: quoted_printable(body) }),
        _ => Ok(Mail { subject, text: body.to_vec() }),
    }
}

/// The header fields, unfolded, and the body; nothing if it does not begin with header fields.
#[allow(clippy::type_complexity, reason = "fields and the rest, once")]
fn headers(text: &[u8]) -> Option<(Vec<(String, String)>, &[u8])> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    for line in lines(text) {
        let shown = String::from_utf8_lossy(line);
        let shown = shown.trim_end();
        if shown.is_empty() {
            return (!fields.is_empty()).then(|| (fields, text.get(at..).unwrap_or_default()));
        }
        at += line.len();
        if let (Some(last), true) = (fields.last_mut(), shown.starts_with([' ', '\t'])) {
            last.1.push(' ');
            last.1.push_str(shown.trim());
            continue;
        }
        let (name, value) = shown.split_once(':')?;
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(fit) {
            return None;
        }
        fields.push((name.into(), value.trim().into()));
    }
    None
}

/// RFC 2045, 6.7.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    for line in lines(body) {
        let (content, end) = match line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")) {
            Some(content) => (content, &b"\n"[..]),
            None => (line, &b""[..]),
        };
        // Blanks at a line's end are none of the mail's.
        let content = content.trim_ascii_end();
        let (content, end) = content.strip_suffix(b"=").map_or((content, end), |content| (content, &b""[..]));
        let mut rest = content;
        while let Some((&first, after)) = rest.split_first() {
            let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
            match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
                (b'=', Some(byte)) => {
                    text.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                _ => {
                    text.push(first);
                    rest = after;
                }
            }
        }
        text.extend_from_slice(end);
    }
    text
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// `--- a/…` with `+++ b/…` below it, or git's header of a change without lines (a mode, a rename, a binary file).
fn has_diff(text: &[u8]) -> bool {
    let all: Vec<&[u8]> = lines(text).collect();
    all.windows(2).any(|pair| matches!(pair, [one, other] if one.starts_with(b"--- ") && other.starts_with(b"+++ ")))
        || all.iter().any(|line| line.starts_with(b"diff --git a/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+two\n";

    fn subjects(text: &str) -> Vec<Option<String>> {
        split(text.as_bytes()).unwrap().into_iter().map(|mail| mail.subject).collect()
    }

    #[test]
    fn a_plain_diff_is_one_patch() {
        let mails = split(DIFF.as_bytes()).unwrap();
        assert_eq!(mails, [Mail { subject: None, text: DIFF.as_bytes().to_vec() }]);
        assert_eq!(split(b"a colon: here\nand no diff\n"), Err(Unfit::Empty));
        assert_eq!(split(b""), Err(Unfit::Empty));
    }

    #[test]
    fn a_series_is_taken_apart_and_its_cover_letter_left_out() {
        let mail = |number: u32, body: &str| {
            format!(
                "From 0123456789abcdef Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nDate: now\nSubject: [PATCH {number}/2] a \
                 long\n one {number}\n\n{body}\n-- \n2.39.5\n\n"
            )
        };
        let text = mail(0, "a cover letter\n") + &mail(1, DIFF) + &mail(2, &format!("From now on it is 2\n\n{DIFF}"));
        let wanted: Vec<_> = [1, 2].map(|number| Some(format!("[PATCH {number}/2] a long one {number}"))).into();
        assert_eq!(subjects(&text), wanted);
    }

    #[test]
    fn a_sentence_is_no_separator() {
        assert!(is_separator(b"From a@b Mon Sep 17 00:00:00 2001\n"));
        assert!(is_separator(b"From 0123 Tue Jan  6 10:11:12 2026\n"));
        assert!(!is_separator(b"From 2001 on nothing at 10 was the same\n"));
        assert!(!is_separator(b"From: A <a@b>\n"));
    }

    #[test]
    fn mails_in_quoted_printable_are_decoded() {
        let text = "Subject: s\nContent-Transfer-Encoding: quoted-printable\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a =3D=\n b\n+=C3=A4\n";
        let mails = split(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&mails[0].text), "\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a = b\n+ä\n");
    }

    #[test]
    fn what_patch_cannot_take_is_told() {
        let encoded = format!("Subject: s\nContent-Transfer-Encoding: base64\n\n{DIFF}");
        assert_eq!(split(encoded.as_bytes()), Err(Unfit::Encoded));
        let attached = format!("Subject: s\nContent-Type: multipart/mixed; boundary=x\n\n{DIFF}");
        assert_eq!(split(attached.as_bytes()), Err(Unfit::Encoded));
        let binary = "diff --git a/x b/x\nindex 0..1\nGIT binary patch\nliteral 1\n";
        assert_eq!(split(binary.as_bytes()), Err(Unfit::Binary));
    }
}
