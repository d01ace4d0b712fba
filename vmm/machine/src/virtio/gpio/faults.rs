//! Misbehaviour by script: which requests are answered wrongly, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::protocol::RequestKind;

/// What goes wrong with an answer. The request itself is carried out in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// The answer comes this much later, when the owner next calls `complete_due`.
    Delay(Duration),
    /// The answer does not come until the owner calls `release_stalled`, if ever.
    Stall,
    /// Another status byte.
    Status(u8),
    /// The last byte of the answer is missing, and the used length says so.
    ShortResponse,
    /// The used length claims a byte more than the answer has.
    LongResponse,
    /// The buffer is given back twice.
    DuplicateCompletion,
    /// A second interrupt follows, with nothing new in the ring.
    SpuriousInterrupt,
}

/// Which requests a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only requests of this kind; any if none.
    pub request: Option<RequestKind>,
    /// Only requests for this line; any if none.
    pub line: Option<u16>,
    /// How many matching requests go well first.
    pub skip: u64,
    /// How many go wrong after that; all if none.
    pub times: Option<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl FaultRule {
    /// Every request goes wrong.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self { request: None, line: None, skip: 0, times: None, fault }
    }

    fn matches(&self, kind: RequestKind, line: u16) -> bool {
        // Line names have no line, whatever the field says.
        let line = self.line.is_none_or(|wanted| wanted == line && kind != RequestKind::GetNames);
        self.request.is_none_or(|wanted| wanted == kind) && line
    }
}

/// A script: the first rule that matches a request and is due decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The rules, in order. Their counts go down as they are used.
    pub rules: Vec<FaultRule>,
}

impl Faults {
    /// What befalls this request.
    pub(super) fn next(&mut self, kind: RequestKind, line: u16) -> Option<Fault> {
        for rule in self.rules.iter_mut().filter(|rule| rule.matches(kind, line)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            match &mut rule.times {
                None => return Some(rule.fault),
                Some(0) => {}
                Some(times) => {
                    *times -= 1;
                    return Some(rule.fault);
                }
            }
        }
        None
    }
}
