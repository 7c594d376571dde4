#!/usr/bin/env bash
# A small Internet in network namespaces, for TestNATLab and for trying things by hand. Needs root, iproute2, nftables and conntrack.
#
#   lab.sh up              make it
#   lab.sh down            remove it
#   lab.sh switch HOME     the home's router gets another public address, and its mappings are gone
#   ip netns exec nl-full1 p2psip node …    be at home behind that router
#
# The namespaces are called nl-..., or as P2PSIP_LAB says: several labs do not get in each other's way.
#
# Public machines, at the end of one wire: nl-pub1 (45.1.0.10) to nl-pub4 (45.4.0.10). Homes nl-<kind>1 and nl-<kind>2, at
# 192.168.1.2, each behind a router nl-<kind>1r of its own. Kinds, by RFC 4787:
#
#   full   endpoint-independent mapping and filtering: whoever knows the port gets in
#   addr   endpoint-independent mapping, address-dependent filtering
#   port   endpoint-independent mapping, address- and port-dependent filtering: most homes
#   sym    address- and port-dependent mapping, at random, and filtering
#   noudp  nothing but TCP to ports 80, 443 and 5080 gets out
#
# and two homes behind a provider's NAT (100.64.0.0/10) with endpoint-independent mapping and filtering, after their own:
#
#   hair1, hair2   with hairpinning: a packet from one to the other's public address arrives
#   bald1, bald2   without
#
# and two machines in one home, nl-lan1 and nl-lan2, 192.168.1.2 and 192.168.1.3, behind the router nl-lanr of the kind port.
#
# No router lets a TCP connection in.
set -euo pipefail

lab=${P2PSIP_LAB:-nl}
publics="1 2 3 4"
kinds="full addr port sym noudp"
n() { ip netns exec "$@"; }

# wire A a B b: a cable from interface a in namespace A to b in B
wire() { ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"; }

space() {
	ip netns add "$1"
	n "$1" ip link set lo up
}

# machine NAME ADDRESS: one on the public wire
machine() {
	space "$1"
	wire $lab-inet "${1#"$lab"-}" "$1" wan
	n $lab-inet ip link set "${1#"$lab"-}" master br0 up
	n "$1" ip address add "$2/8" dev wan
	n "$1" ip link set wan up
}

# route: this namespace is a router
route() { n "$1" sysctl -qw net.ipv4.ip_forward=1; }

# home NAME [PORTS]: a machine behind the router NAMEr, which has an interface wan already, and the ports it takes by itself
home() {
	local name=$1 ports=${2:-32768 60999}
	space "$name"
	wire "${name}r" lan "$name" eth0
	n "${name}r" ip address add 192.168.1.1/24 dev lan
	n "${name}r" ip link set lan up
	n "$name" ip address add 192.168.1.2/24 dev eth0
	n "$name" ip link set eth0 up
	n "$name" ip route add default via 192.168.1.1
	n "$name" sysctl -qw net.ipv4.ip_local_port_range="$ports"
	route "${name}r"
}

# nat NAMEr KIND
nat() {
	local post="oifname wan masquerade" pre="" forward="" sets=""
	case $2 in
	full) pre="iifname wan meta l4proto udp dnat to 192.168.1.2" ;;
	addr)
		sets="set met { type ipv4_addr; flags dynamic,timeout; timeout 5m; }"
		forward="iifname lan meta l4proto udp add @met { ip daddr timeout 5m }"
		pre="iifname wan meta l4proto udp ip saddr @met dnat to 192.168.1.2"
		;;
	port) ;;
	sym) post="oifname wan masquerade random,fully-random" ;;
	noudp) forward="iifname lan tcp dport { 80, 443, 5080 } accept; iifname lan drop" ;;
	esac
	n "$1" nft -f - <<-RULES
		table ip nat {
			$sets
			chain pre { type nat hook prerouting priority dstnat; $pre; }
			chain post { type nat hook postrouting priority srcnat; $post; }
			# What nobody wants is dropped before it is remembered: else its port would be taken for who sends there next.
			chain input { type filter hook input priority filter; iifname wan drop; }
			chain forward {
				type filter hook forward priority filter;
				ct state established,related accept
				$forward
				iifname wan ct status dnat accept
				iifname wan drop
			}
		}
	RULES
}

# provider NAME ADDRESS HAIRPIN: a NAT of a provider's for two homes, at 100.64.1.2 with the ports from 10000 and at 100.64.2.2
# with those from 30000
provider() {
	local from="" back=""
	machine "$1" "$2"
	route "$1"
	if [ "$3" = yes ]; then
		back="ip saddr 100.64.0.0/10 ip daddr 100.64.0.0/10 snat to $2"
	else
		from="iifname wan" # what comes from inside for the public address ends here
	fi
	n "$1" nft -f - <<-RULES
		table ip nat {
			chain pre {
				type nat hook prerouting priority dstnat;
				$from ip daddr $2 udp dport 10000-29999 dnat to 100.64.1.2
				$from ip daddr $2 udp dport 30000-49999 dnat to 100.64.2.2
			}
			chain post {
				type nat hook postrouting priority srcnat
				oifname wan snat to $2
				$back
			}
			chain input { type filter hook input priority filter; meta l4proto { tcp, udp } drop; }
			chain forward {
				type filter hook forward priority filter
				ct state established,related accept
				ct status dnat accept
				iifname wan drop
				oifname != wan drop
			}
		}
	RULES
	for i in 1 2; do
		space "$1${i}r"
		wire "$1" "in$i" "$1${i}r" wan
		n "$1" ip address add "100.64.$i.1/24" dev "in$i"
		n "$1" ip link set "in$i" up
		n "$1${i}r" ip address add "100.64.$i.2/24" dev wan
		n "$1${i}r" ip link set wan up
		n "$1${i}r" ip route add default via "100.64.$i.1"
		home "$1$i" "$((i * 20000 - 10000)) $((i * 20000 + 9999))"
		nat "$1${i}r" full
	done
}

up() {
	space $lab-inet
	n $lab-inet ip link add br0 type bridge
	n $lab-inet ip link set br0 up
	for i in $publics; do machine "$lab-pub$i" "45.$i.0.10"; done
	local at=20
	for kind in $kinds; do
		for i in 1 2; do
			machine "$lab-$kind${i}r" "45.$at.0.10"
			home "$lab-$kind$i"
			nat "$lab-$kind${i}r" "$kind"
			at=$((at + 1))
		done
	done
	machine $lab-lanr "45.$at.0.10"
	at=$((at + 1))
	route $lab-lanr
	nat $lab-lanr port
	n $lab-lanr ip link add lan type bridge
	n $lab-lanr ip address add 192.168.1.1/24 dev lan
	n $lab-lanr ip link set lan up
	for i in 1 2; do
		space "$lab-lan$i"
		wire $lab-lanr "lan$i" "$lab-lan$i" eth0
		n $lab-lanr ip link set "lan$i" master lan up
		n "$lab-lan$i" ip address add "192.168.1.$((i + 1))/24" dev eth0
		n "$lab-lan$i" ip link set eth0 up
		n "$lab-lan$i" ip route add default via 192.168.1.1
	done
	for kind in hair bald; do
		provider "$lab-$kind" "45.$at.0.10" "$([ $kind = hair ] && echo yes || echo no)"
		at=$((at + 1))
	done
}

# switch HOME: as after a night's reconnection
switch() {
	local r="$lab-${1#"$lab"-}r" old new
	old=$(n "$r" ip -4 -o address show dev wan | awk '{print $4}')
	new="45.$(($(echo "$old" | cut -d. -f2) + 100)).0.10/8"
	n "$r" ip address del "$old" dev wan # in this order: the second address of a network goes with the first
	n "$r" ip address add "$new" dev wan
	n "$r" conntrack -F 2>/dev/null
}

down() {
	for s in $(ip netns list | awk -v lab="$lab-" 'index($1, lab) == 1 {print $1}'); do ip netns del "$s"; done
}

case ${1:-} in
up) up ;;
down) down ;;
switch) switch "$2" ;;
*)
	sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'
	exit 2
	;;
esac
