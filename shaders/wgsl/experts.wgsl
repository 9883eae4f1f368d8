// Products with the experts that a router chose.
//
// Experts' matrices lie one after the other in the planes, expert_rows rows apart. A route is an expert and
// its weight; routes are [token][slot], `slots` for each column of x that a result adds up:
//   gate and up rows   a result is that of one route (slots = 1), times its weight; the `share` routes of
//                      a token have one column of x
//   down rows          a result is that of one token and adds up its routes, a column of x each (share = 1)
// They begin at routes_at, in pairs, and may be part of a step's words.
// Planes hold the experts from first_expert on, `experts` of them; routes to others add nothing.

@group(0) @binding(auto) var<storage, read_write> routes: array<vec2<u32>>;

// Where a route's expert is in the planes; past the last one for those of other planes.
fn expert_of(route: u32) -> u32 {
    return routes[p.routes_at + route].x - p.first_expert;
}
