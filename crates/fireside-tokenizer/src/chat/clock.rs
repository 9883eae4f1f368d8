//! The time that a chat template sees, and how it is written.

use std::fmt::Write;
use std::sync::Arc;

/// Gives the time when a template calls `strftime_now`.
///
/// It is a function of the caller's so that tests have a fixed time and a browser its own.
pub type Clock = Arc<dyn Fn() -> ClockTime + Send + Sync>;

/// A moment in a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTime {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub unix_seconds: i64,
    /// How far local time is ahead of UTC, in seconds.
    pub utc_offset_seconds: i32,
}

/// The parts of a moment on the calendar.
struct Parts {
    year: i64,
    month: usize,
    day: i64,
    /// Days since Sunday.
    weekday: usize,
    /// Days since the first of January.
    yearday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const DAY: i64 = 86_400;

impl ClockTime {
    /// The system's time, in UTC.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn now() -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            unix_seconds: since_epoch.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0)),
            utc_offset_seconds: 0,
        }
    }

    fn parts(self) -> Parts {
        let local = self
            .unix_seconds
            .saturating_add(i64::from(self.utc_offset_seconds));
        let (days, seconds) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        Parts {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            yearday: days - days_to_year(year),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// Writes the time as C's `strftime` does in the C locale. Unknown directives stay as they are.
    pub fn format(self, format: &str) -> String {
        let parts = self.parts();
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let rest = chars.as_str();
            let mut directive = chars.next();
            // `%-d` is `%d` without padding.
            let bare = directive == Some('-');
            if bare {
                directive = chars.next();
            }
            let mut field = String::new();
            if directive.is_some_and(|directive| self.write(directive, &parts, &mut field)) {
                let digits = field.trim_start_matches(['0', ' ']);
                match bare {
                    true if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                        out.push_str(digits)
                    }
                    true if field.ends_with('0') => out.push('0'),
                    _ => out.push_str(&field),
                }
            } else {
                out.push('%');
                chars = rest.chars();
            }
        }
        out
    }

    /// Writes one directive; false if it is not known.
    fn write(self, directive: char, parts: &Parts, out: &mut String) -> bool {
        let month = MONTHS.get(parts.month - 1).copied().unwrap_or_default();
        let weekday = WEEKDAYS.get(parts.weekday).copied().unwrap_or_default();
        let hour12 = (parts.hour + 11) % 12 + 1;
        let &Parts {
            year,
            day,
            hour,
            minute,
            second,
            yearday,
            ..
        } = parts;
        let sunday = parts.weekday as i64;
        let monday = (sunday + 6) % 7;
        // Writing to a string cannot fail.
        let _ = match directive {
            'Y' => write!(out, "{year}"),
            'C' => write!(out, "{:02}", year.div_euclid(100)),
            'y' => write!(out, "{:02}", year.rem_euclid(100)),
            'm' => write!(out, "{:02}", parts.month),
            'd' => write!(out, "{day:02}"),
            'e' => write!(out, "{day:2}"),
            'H' => write!(out, "{hour:02}"),
            'k' => write!(out, "{hour:2}"),
            'I' => write!(out, "{hour12:02}"),
            'l' => write!(out, "{hour12:2}"),
            'M' => write!(out, "{minute:02}"),
            'S' => write!(out, "{second:02}"),
            'f' => write!(out, "000000"),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'B' => write!(out, "{month}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'A' => write!(out, "{weekday}"),
            'a' => write!(out, "{}", &weekday[..3]),
            'j' => write!(out, "{:03}", yearday + 1),
            'w' => write!(out, "{sunday}"),
            'u' => write!(out, "{}", monday + 1),
            'U' => write!(out, "{:02}", (yearday + 7 - sunday) / 7),
            'W' => write!(out, "{:02}", (yearday + 7 - monday) / 7),
            's' => write!(out, "{}", self.unix_seconds),
            'D' | 'x' => write!(
                out,
                "{:02}/{day:02}/{:02}",
                parts.month,
                year.rem_euclid(100)
            ),
            'F' => write!(out, "{year}-{:02}-{day:02}", parts.month),
            'T' | 'X' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            'c' => write!(
                out,
                "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
                &weekday[..3],
                &month[..3]
            ),
            'n' => writeln!(out),
            't' => write!(out, "\t"),
            // Python's local time has no zone attached.
            'z' | 'Z' => Ok(()),
            '%' => write!(out, "%"),
            _ => return false,
        };
        true
    }
}

/// Days from 1970-01-01 to the first of January of a year.
fn days_to_year(year: i64) -> i64 {
    let before = year - 1;
    365 * (year - 1970) + (before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400))
        - 477
}

/// Year, month from 1 and day from 1 of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, usize, i64) {
    // 400 years have 146,097 days; the estimate is at most one year off.
    let mut year = 1970 + days.saturating_mul(400).div_euclid(146_097);
    while days_to_year(year) > days {
        year -= 1;
    }
    while days_to_year(year + 1) <= days {
        year += 1;
    }
    let leap = days_to_year(year + 1) - days_to_year(year) == 366;
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut day = days - days_to_year(year);
    for (index, length) in lengths.into_iter().enumerate() {
        if day < length {
            return (year, index + 1, day + 1);
        }
        day -= length;
    }
    (year, 12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: i64) -> ClockTime {
        ClockTime {
            unix_seconds,
            utc_offset_seconds: 0,
        }
    }

    #[test]
    fn known_moments_are_written_as_python_writes_them() {
        let leap_day = at(1_709_210_096);
        assert_eq!(leap_day.format("%d %b %Y"), "29 Feb 2024");
        assert_eq!(
            leap_day.format("%A, %B %-d, %Y %H:%M:%S"),
            "Thursday, February 29, 2024 12:34:56"
        );
        assert_eq!(
            leap_day.format("%I:%M %p %j %a %y %U %W %u %w"),
            "12:34 PM 060 Thu 24 08 09 4 4"
        );
        assert_eq!(
            leap_day.format("%F %T %D %e|%k|%l"),
            "2024-02-29 12:34:56 02/29/24 29|12|12"
        );
        assert_eq!(at(0).format("%c"), "Thu Jan  1 00:00:00 1970");
        assert_eq!(at(-1).format("%Y-%m-%d %H:%M:%S"), "1969-12-31 23:59:59");
        assert_eq!(at(951_782_400).format("%F"), "2000-02-29");
    }

    #[test]
    fn padding_can_be_left_out() {
        let time = at(1_704_067_200 + 5 * 60);
        assert_eq!(time.format("%d %-d %H %-H %M %-M"), "01 1 00 0 05 5");
    }

    #[test]
    fn the_offset_moves_the_clock() {
        let time = ClockTime {
            unix_seconds: 1_704_067_200,
            utc_offset_seconds: -3600,
        };
        assert_eq!(time.format("%F %R"), "2023-12-31 23:00");
    }

    #[test]
    fn unknown_directives_stay_as_they_are() {
        assert_eq!(at(0).format("100% %Q %- %"), "100% %Q %- %");
        assert_eq!(at(0).format("%%Y"), "%Y");
    }

    #[test]
    fn any_moment_can_be_written() {
        for seconds in [
            i64::MIN,
            i64::MIN / 2,
            -62_135_596_801,
            253_402_300_800,
            i64::MAX,
        ] {
            assert!(!at(seconds).format("%c %j %U").is_empty());
        }
    }
}
