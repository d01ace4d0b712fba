//! Days and times of day, in UTC, as reports write them.

use std::time::{SystemTime, UNIX_EPOCH};

use toml::value::Date;

const SECONDS_A_DAY: u64 = 86_400;
/// Later ones have more digits than ISO 8601 gives a year.
const LAST_DAY: u64 = 2_932_896;

/// The day that it is now.
#[must_use]
pub fn today() -> Date {
    date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The day of a time that is given in seconds since 1970. What lies after the year 9999 is its last day.
#[must_use]
pub fn date(unix_s: u64) -> Date {
    // Howard Hinnant's civil_from_days: years begin in March, so that the day that some years have more is a year's last.
    let days = (unix_s / SECONDS_A_DAY).min(LAST_DAY) + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let narrow = |number: u64| u8::try_from(number).unwrap_or(1);
    Date { year: u16::try_from(year).unwrap_or(9999), month: narrow(month), day: narrow(day) }
}

/// `2026-11-23T06:17:46Z`, as RFC 3339 has it.
#[must_use]
pub fn rfc3339(unix_s: u64) -> String {
    let (hour, minute, second) = time_of_day(unix_s);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", date(unix_s))
}

/// `2026-11-23 06:17 UTC`, for people.
#[must_use]
pub fn minute(unix_s: u64) -> String {
    let (hour, minute, _) = time_of_day(unix_s);
    format!("{} {hour:02}:{minute:02} UTC", date(unix_s))
}

fn time_of_day(unix_s: u64) -> (u64, u64, u64) {
    let second = unix_s % SECONDS_A_DAY;
    (second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_414_666, "2026-11-23"),
            (4_107_542_400, "2100-03-01"),
            (4_107_542_399, "2100-02-28"),
            (253_402_300_799, "9999-12-31"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(date(unix_s).to_string(), expected, "{unix_s}");
        }
        assert_eq!(rfc3339(1_795_414_666), "2026-11-23T06:17:46Z");
        assert_eq!(minute(1_795_414_666), "2026-11-23 06:17 UTC");
    }

    #[test]
    fn a_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..=LAST_DAY {
            let now = date(day * SECONDS_A_DAY);
            assert!(now > before && now.day != before.day, "{before} {now}");
            before = now;
        }
    }
}
