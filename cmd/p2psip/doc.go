// Command p2psip makes overlays, runs nodes and asks them how they are.
//
//	p2psip overlay create|update|show|issue    for whoever founds an overlay: its document and its members' credentials
//	p2psip node [init|install|id]              for a member: one node, with the phones beside it
//	p2psip user add|list|remove                for phones that are not on the node's own machine: their passwords
//	p2psip status, p2psip lookup               ask the running node, over a socket in its data directory
//	p2psip demo                                an overlay of twelve nodes and a call across it, in one process
//
// There is one file for each command. ui.go alone decides what the terminal shows, exit.go turns errors into exit codes
// and hints, args.go lets options stand anywhere on the line. What a running node consists of is package node's matter;
// nothing here knows SIP but the demonstration.
package main
