//! What a request makes a service do, and how requests and calls are told apart: by a tag in the
//! path, which the service hands on and which the agent must not use.
//!
//! Drawn from a seed alone, so that every service at every concurrency is asked the same.

use std::fmt;

use fastrand::Rng;

/// The most calls that a request causes.
pub(crate) const MOST_CALLS: u8 = 4;
/// The longest sleep before or after calls, in milliseconds.
const LONGEST_SLEEP: u8 = 10;

/// Tells a request from all others of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(pub(crate) u32);

/// One outbound call of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) tag: Tag,
    /// Its place among the calls of its request, from 0.
    pub(crate) number: u8,
}

/// The steps of a request. Written `s5.c2.p3`: sleep 5 ms, two calls one after the other, three at
/// once (or one after the other too, where the service cannot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Milliseconds.
    Sleep(u8),
    InTurn(u8),
    AtOnce(u8),
}

impl Tag {
    /// The tag in a path like `/plan/17` or `/leaf/17/2`.
    pub(crate) fn in_path(path: &str) -> Option<Self> {
        path.split('/').nth(2)?.parse().ok().map(Self)
    }
}

impl Call {
    /// The call that asks the leaf for a path like `/leaf/17/2`.
    pub(crate) fn in_path(path: &str) -> Option<Self> {
        let (tag, number) = path.strip_prefix("/leaf/")?.split_once('/')?;
        Some(Self { tag: Tag(tag.parse().ok()?), number: number.parse().ok()? })
    }

    /// The path that asks the leaf for it.
    pub(crate) fn path(self) -> String {
        format!("/leaf/{}/{}", self.tag.0, self.number)
    }

    /// Randomness of its own.
    pub(crate) fn random(self, seed: u64) -> Rng {
        Rng::with_seed(seed ^ (u64::from(self.tag.0) << 8 | u64::from(self.number) | 1 << 63))
    }
}

impl Plan {
    /// Any number of calls up to the most, in groups, with sleeps between the groups.
    pub(crate) fn draw(seed: u64, tag: Tag) -> Self {
        let mut random = Rng::with_seed(seed ^ u64::from(tag.0));
        let mut steps = Vec::new();
        let mut left = random.u8(0..=MOST_CALLS);
        let sleep = |random: &mut Rng, steps: &mut Vec<Step>| {
            if random.bool() {
                steps.push(Step::Sleep(random.u8(0..=LONGEST_SLEEP)));
            }
        };
        while left > 0 {
            sleep(&mut random, &mut steps);
            let group = random.u8(1..=left);
            let at_once = group > 1 && random.bool();
            steps.push(if at_once { Step::AtOnce(group) } else { Step::InTurn(group) });
            left -= group;
        }
        sleep(&mut random, &mut steps);
        Self(steps)
    }

    /// What a proxy does.
    pub(crate) fn one_call() -> Self {
        Self(vec![Step::InTurn(1)])
    }

    /// How many calls it makes.
    pub(crate) fn calls(&self) -> u8 {
        let calls = self.0.iter().map(|step| match step {
            Step::Sleep(_) => 0,
            Step::InTurn(calls) | Step::AtOnce(calls) => *calls,
        });
        calls.sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let (letter, number) = match step {
                Step::Sleep(milliseconds) => ('s', milliseconds),
                Step::InTurn(calls) => ('c', calls),
                Step::AtOnce(calls) => ('p', calls),
            };
            write!(f, "{}{letter}{number}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_written_as_services_read_them() {
        let plan = Plan(vec![Step::Sleep(5), Step::InTurn(2), Step::AtOnce(3)]);
        assert_eq!(plan.to_string(), "s5.c2.p3");
        assert_eq!(plan.calls(), 5);
        assert_eq!(Plan(Vec::new()).to_string(), "");
    }

    #[test]
    fn plans_cover_every_number_of_calls_and_both_ways_and_are_the_same_again() {
        let plans: Vec<Plan> = (0..500).map(|tag| Plan::draw(7, Tag(tag))).collect();
        for calls in 0..=MOST_CALLS {
            assert!(plans.iter().any(|plan| plan.calls() == calls), "none of {calls}");
        }
        assert!(plans.iter().all(|plan| plan.calls() <= MOST_CALLS));
        for letter in ['s', 'c', 'p'] {
            assert!(plans.iter().any(|plan| plan.to_string().contains(letter)), "no {letter}");
        }
        assert_eq!(plans[9], Plan::draw(7, Tag(9)));
        assert!(
            plans.iter().enumerate().any(|(tag, plan)| *plan != Plan::draw(8, Tag(tag as u32)))
        );
    }

    #[test]
    fn paths_carry_tags() {
        let call = Call { tag: Tag(17), number: 2 };
        assert_eq!(Call::in_path(&call.path()), Some(call));
        assert_eq!(Tag::in_path(&call.path()), Some(Tag(17)));
        assert_eq!(Tag::in_path("/plan/17"), Some(Tag(17)));
        assert_eq!(Tag::in_path("/"), None);
        assert_eq!(Call::in_path("/plan/17/2"), None);
    }
}
