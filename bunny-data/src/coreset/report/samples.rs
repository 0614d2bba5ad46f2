//! Rows that a report shows: some groups of duplicates, and who stands about the ends of the windows,
//! with their captions and, where they are at hand, their pictures.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Report;
use super::charts::grouped;
use crate::coreset::stages::duplicates::Joined;
use crate::coreset::stages::output::OutputOptions;
use crate::coreset::stages::sample::{Wanted, for_each_key};
use crate::coreset::stages::windows::Ranked;
use crate::coreset::survivor::Survivor;
use crate::embeddings::EmbeddingSet;
use crate::error::Result;
use crate::html;
use crate::images::{KeyedPictures, shown};
use crate::store::Store;

/// The longer side of a picture, in pixels.
const SIDE: u32 = 128;

/// Characters of a caption, at most.
const CAPTION: usize = 160;

/// Each row that is shown, as a piece of the page.
pub(crate) type Cards = BTreeMap<u64, String>;

/// The cards of all rows that a report shows.
pub(crate) fn cards(
    report: &Report,
    store: &dyn Store,
    set: &EmbeddingSet,
    outputs: &OutputOptions,
) -> Result<Cards> {
    let groups = report.reduced.joined.iter();
    let joined = groups.flat_map(|group| group.others.iter().chain([&group.stays]));
    let seats = report.score.seats.iter().chain(&report.centroid.seats);
    let mut rows: Vec<u64> = joined.copied().chain(seats.map(|seat| seat.row)).collect();
    rows.sort_unstable();
    rows.dedup();
    let records: Vec<Survivor> = rows.into_iter().map(Survivor::row_alone).collect();
    let pictures = outputs.images.as_deref().map(KeyedPictures::open);
    let pictures = pictures.transpose()?;
    let mut cards = Cards::new();
    for shard in 0..set.shards.len() {
        for_each_key(
            store,
            set,
            shard,
            &records,
            Wanted::Texts,
            |index, texts| {
                let mut card = String::from("<figure>");
                if let Some(pictures) = &pictures
                    && let Some(name) = pictures.find(texts.key)
                {
                    card.push_str(&shown(pictures.source(), &name, SIDE));
                }
                let key = html::escape(texts.key);
                let _ = write!(card, "<figcaption><code>{key}</code>");
                if let Some(caption) = texts.caption {
                    let mut short: String = caption.chars().take(CAPTION).collect();
                    if short.len() < caption.len() {
                        short.push('…');
                    }
                    let _ = write!(card, "<br>{}", html::escape(&short));
                }
                card.push_str("</figcaption></figure>");
                cards.insert(records[index].row, card);
                Ok(())
            },
        )?;
    }
    Ok(cards)
}

fn card(cards: &Cards, row: u64) -> &str {
    cards.get(&row).map_or("", String::as_str)
}

/// Some groups of duplicates, the row that stays first.
pub(super) fn groups(joined: &[Joined], cards: &Cards) -> String {
    let mut page = String::new();
    for group in joined {
        let _ = write!(
            page,
            "<div class=\"row\"><div class=\"stays\">{}</div>",
            card(cards, group.stays)
        );
        for other in &group.others {
            page.push_str(card(cards, *other));
        }
        let hidden = group.size - 1 - group.others.len() as u64;
        if hidden > 0 {
            let _ = write!(page, "<p>and {} more</p>", grouped(hidden));
        }
        page.push_str("</div>\n");
    }
    match page.is_empty() {
        true => page,
        false => format!("<h3>Some groups, by lot; the framed row stays</h3>\n{page}"),
    }
}

/// The rows about both ends of a window.
pub(super) fn seats(ranked: &Ranked, cards: &Cards) -> String {
    let mut page = String::new();
    let mut before = None;
    for seat in &ranked.seats {
        if before.is_none_or(|rank: u64| rank + 1 != seat.rank) {
            if before.is_some() {
                page.push_str("</div>\n");
            }
            page.push_str("<div class=\"row\">");
        }
        before = Some(seat.rank);
        let _ = write!(
            page,
            "<div class=\"{}\"><small>rank {}: {:.4}{}</small>{}</div>",
            if seat.inside { "stays" } else { "goes" },
            grouped(seat.rank),
            seat.value,
            if seat.inside { "" } else { ", out" },
            card(cards, seat.row)
        );
    }
    match page.is_empty() {
        true => page,
        false => format!("<h3>About its ends; framed rows stay</h3>\n{page}</div>\n"),
    }
}
