use proptest::prelude::*;

use super::super::{plain, sample};
use super::*;

fn page(report: &Report) -> String {
    render(report, &plain)
}

/// A page without its style, with a line for each element.
fn body_of(report: &Report) -> String {
    let page = page(report);
    let (_, body) = page.split_once("<body>").unwrap();
    body.replace("><", ">\n<")
}

/// The names of all elements, in order.
fn elements(page: &str) -> Vec<String> {
    let name = |rest: &str| -> String {
        rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || "/!-".contains(*letter)).collect()
    };
    page.split('<').skip(1).map(name).collect()
}

#[test]
fn of_one_run() {
    let [one, _] = sample::reports();
    insta::assert_snapshot!(body_of(&one));
}

#[test]
fn of_many_runs() {
    let [_, many] = sample::reports();
    insta::assert_snapshot!(body_of(&many));
}

#[test]
fn a_guest_that_answers_nothing_shows_where_its_processors_are() {
    let page = body_of(&sample::report([sample::silent()]));
    let article = page.split_once("<article").unwrap().1.split_once("<h4>Again").unwrap().0;
    insta::assert_snapshot!(article);
}

#[test]
fn a_strip_is_drawn_where_there_are_events() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.jsonl"), sample::EVENTS).unwrap();
    let mut gathered = super::super::Gathered::runs(sample::runs([sample::hang_and_splat()]));
    gathered.runs[0].folder = folder.path().into();
    let report = Report::of(gathered, None);
    let page = body_of(&report);
    let strip = page.split_once("<div class=\"scroll strip\"").unwrap().1.split_once("</svg>").unwrap().0;
    insta::assert_snapshot!(strip);
    assert!(page.len() < 60_000, "{}", page.len());
}

#[test]
fn it_needs_nothing_and_runs_nothing() {
    for report in sample::reports() {
        let page = page(&report);
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("default-src 'none'"));
        for word in ["<script", "<link", "<img", "@import", "url(", "src=", "<iframe", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}

/// Ids are unique, references lead somewhere, headings go down by one.
#[test]
fn its_parts_hold_together() {
    for report in sample::reports() {
        let page = page(&report);
        let values = |attribute: &str| -> Vec<String> {
            let before = format!(" {attribute}=\"");
            page.split(&before).skip(1).map(|piece| piece.split('"').next().unwrap().to_owned()).collect()
        };
        let ids = values("id");
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        assert!(values("aria-labelledby").iter().all(|id| ids.contains(id)));
        for link in values("href") {
            assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(&id.to_owned())), "{link}");
        }
        let levels: Vec<u32> = elements(&page)
            .iter()
            .filter_map(|name| name.strip_prefix('h').and_then(|level| level.parse().ok()))
            .collect();
        assert_eq!(levels[0], 1);
        assert!(levels.windows(2).all(|pair| pair[1] > 1 && pair[1] <= pair[0] + 1), "{levels:?}");
        // Each element that is opened is closed.
        let all = elements(&page);
        for name in
            ["div", "table", "tr", "td", "th", "pre", "span", "p", "details", "section", "article", "svg", "text"]
        {
            let count = |wanted: &str| all.iter().filter(|name| *name == wanted).count();
            assert_eq!(count(name), count(&format!("/{name}")), "{name}");
        }
    }
}

proptest! {
    /// Whatever a guest says wherever it can say something, it is text and not markup: the elements of the page are those
    /// that it has if the guest says nothing of the kind.
    #[test]
    fn what_a_guest_says_is_no_markup(
        said in prop_oneof![
            "[<>&\"'/a-z=! -]{1,40}",
            Just("<script>alert(1)</script>".to_owned()),
            Just("</pre></title></style><img src=x onerror=alert(1)>".to_owned()),
            Just("\"><svg onload=alert(1)>".to_owned()),
            Just("javascript:alert(1)".to_owned()),
            Just("]]>--><!--".to_owned()),
        ],
    ) {
        let page = |said: &str| page(&sample::report([sample::hostile(said), sample::hostile(said)]));
        // Of as many words, and frames of stacks as little as before.
        let harmless = said.replace(['<', '>', '&', '"', '\''], "(");
        let hostile = page(&said);
        prop_assert_eq!(elements(&hostile), elements(&page(&harmless)));
        prop_assert!(!hostile.contains("href=\"javascript"));
    }

    #[test]
    fn nothing_hidden_is_in_it(said in "[\\x00-\\x1f\u{7f}-\u{9f}\u{202a}-\u{202e}\u{2066}-\u{2069}a]{1,20}") {
        let page = page(&sample::report([sample::hostile(&said)]));
        let is_hidden = |letter: char| {
            (letter.is_control() && letter != '\n' && letter != '\t')
                || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let hides = page.contains(is_hidden);
        prop_assert!(!hides);
    }
}
