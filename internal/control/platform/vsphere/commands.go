package vsphere

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// commands returns what a person would type in PowerCLI, connected to the vCenter, for the effect of a step.
func commands(before, do change) []string {
	var lines []string
	switch do.Kind {
	case kindSession:
		lines = sessionCommand(before, do)
	case kindIPFIX:
		lines = ipfixCommand(before, do)
	case kindGroup:
		lines = groupCommand(do)
	case kindHostGroup:
		lines = hostGroupCommand(before, do)
	case kindMachine:
		lines = machineCommand(before, do)
	case kindAdapters:
		lines = adapterCommand(before, do)
	}
	return []string{"pwsh -Command " + shellQuote(strings.Join(lines, "; "))}
}

// shellQuote quotes a text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// ps quotes a text for PowerShell.
func ps(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func psList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = ps(s)
	}
	return "@(" + strings.Join(out, ",") + ")"
}

func psBool(yes string) string {
	if yes == "yes" {
		return "$true"
	}
	return "$false"
}

// psNew writes a new object with its properties.
func psNew(class string, properties map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if properties[name] != "" {
			out = append(out, name+"="+properties[name])
		}
	}
	return "(New-Object VMware.Vim." + class + " -Property @{" + strings.Join(out, ";") + "})"
}

func psSwitch(id string) string {
	return "$d = Get-View -Id " + ps("VmwareDistributedVirtualSwitch-"+id)
}

func psReconfigure(properties map[string]string) string {
	properties["ConfigVersion"] = "$d.Config.ConfigVersion"
	return "$d.ReconfigureDvs(" + psNew("VMwareDVSConfigSpec", properties) + ")"
}

func sessionCommand(before, do change) []string {
	operation, f := "edit", do.Fields
	switch {
	case before.Fields == nil:
		operation = "add"
	case f == nil:
		operation = "remove"
	}
	properties := map[string]string{}
	if key := before.Fields["key"]; key != "" {
		properties["Key"] = ps(key)
	}
	if f != nil {
		ports := func(names ...string) string {
			list := map[string]string{}
			for _, n := range names {
				switch {
				case f[n] == "":
				case n == "to-addresses":
					list["IpAddress"] = psList(split(f[n]))
				case n == "to-uplinks":
					list["UplinkPortName"] = psList(splitNames(f[n]))
				case n == "vlans":
					list["Vlans"] = "@(" + f[n] + ")"
				default:
					list["PortKey"] = psList(split(f[n]))
				}
			}
			if len(list) == 0 {
				return ""
			}
			return psNew("VMwareVspanPort", list)
		}
		maps.Copy(properties, map[string]string{
			"Name": ps(f["name"]), "Description": ps(f["description"]), "SessionType": ps(f["type"]), "Enabled": psBool(f["enabled"]),
			"StripOriginalVlan": psBool(f["strip-vlan"]), "NormalTrafficAllowed": psBool(f["normal-traffic"]), "SamplingRate": f["sampling"],
			"MirroredPacketLength": f["length"], "EncapsulationVlanId": f["to-vlan"], "ErspanId": f["erspan-id"], "ErspanCOS": f["erspan-cos"],
			"SourcePortTransmitted": ports("transmitted"), "SourcePortReceived": ports("received", "vlans"),
			"DestinationPort": ports("to-ports", "to-addresses", "to-uplinks"),
		})
		for name, value := range map[string]string{"EncapType": f["encapsulation"], "Netstack": f["netstack"]} {
			if value != "" {
				properties[name] = ps(value)
			}
		}
	}
	session := psNew("VMwareVspanSession", properties)
	spec := psNew("VMwareDVSVspanConfigSpec", map[string]string{"Operation": ps(operation), "VspanSession": session})
	return []string{psSwitch(do.Switch), psReconfigure(map[string]string{"VspanConfigSpec": "@(" + spec + ")"})}
}

func ipfixCommand(before, do change) []string {
	out := []string{psSwitch(do.Switch)}
	if c := do.Fields; c != nil {
		x := psNew("VMwareIpfixConfig", map[string]string{
			"CollectorIpAddress": ps(c["collector"]), "CollectorPort": c["port"], "ObservationDomainId": c["domain"], "ActiveFlowTimeout": c["active"],
			"IdleFlowTimeout": c["idle"], "SamplingRate": orZero(c["sampling"]), "InternalFlowsOnly": psBool(c["internal"]),
		})
		properties := map[string]string{"IpfixConfig": x}
		if ip := c["switch-ip"]; ip != "" {
			properties["SwitchIpAddress"] = ps(ip)
		}
		out = append(out, psReconfigure(properties))
	}
	toggle := func(names []string, on string) {
		for _, name := range names {
			setting := psNew("VMwareDVSPortSetting", map[string]string{"IpfixEnabled": psNew("BoolPolicy", map[string]string{"Value": on})})
			out = append(out, fmt.Sprintf("$g = (Get-VDPortgroup -Name %s).ExtensionData; $g.ReconfigureDVPortgroup(%s)", ps(name),
				psNew("DVPortgroupConfigSpec", map[string]string{"ConfigVersion": "$g.Config.ConfigVersion", "DefaultPortConfig": setting})))
		}
	}
	was, want := splitNames(before.Fields["groups"]), splitNames(do.Fields["groups"])
	toggle(minus(want, was), "$true")
	toggle(minus(was, want), "$false")
	return out
}

// minus returns what is in a and not in b.
func minus(a, b []string) (out []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func groupCommand(do change) []string {
	name := ps(do.Name)
	if do.Fields == nil {
		return []string{"Get-VDPortgroup -Name " + name + " | Remove-VDPortgroup -Confirm:$false"}
	}
	return []string{
		fmt.Sprintf("$g = Get-VDPortgroup -Name %s -ErrorAction SilentlyContinue", name),
		fmt.Sprintf("if (-not $g) { $g = Get-VDSwitch -Id %s | New-VDPortgroup -Name %s -Notes %s -VlanTrunkRange %s }",
			ps("VmwareDistributedVirtualSwitch-"+do.Switch), name, ps(do.Fields["description"]), ps(do.Fields["vlans"])),
		fmt.Sprintf("$g | Set-VDPortgroup -Notes %s -VlanTrunkRange %s", ps(do.Fields["description"]), ps(do.Fields["vlans"])),
		"$g | Get-VDSecurityPolicy | Set-VDSecurityPolicy -AllowPromiscuous:$true",
	}
}

func hostGroupCommand(before, do change) []string {
	host := "$h = Get-VMHost -Id " + ps("HostSystem-"+do.Host)
	get := "Get-VirtualPortGroup -VMHost $h -Standard -Name " + ps(do.Name)
	switch {
	case do.Fields == nil:
		return []string{host, get + " | Remove-VirtualPortGroup -Confirm:$false"}
	case before.Fields == nil:
		return []string{host, fmt.Sprintf("$g = Get-VirtualSwitch -VMHost $h -Standard -Name %s | New-VirtualPortGroup -Name %s -VLanId %s", ps(do.Fields["switch"]), ps(do.Name), do.Fields["vlan"]), "$g | Get-SecurityPolicy | Set-SecurityPolicy -AllowPromiscuous:$true"}
	}
	return []string{host, fmt.Sprintf("$g = %s | Set-VirtualPortGroup -VLanId %s", get, do.Fields["vlan"]), "$g | Get-SecurityPolicy | Set-SecurityPolicy -AllowPromiscuous:$true"}
}

func machineCommand(before, do change) []string {
	name := ps(do.Name)
	host := "$h = Get-VMHost -Id " + ps("HostSystem-"+do.Host)
	switch {
	case do.Fields == nil && noteWord(before.Fields["note"], "image") == "":
		return []string{"Get-VM -Name " + name + " | Set-VM -Notes '' -Confirm:$false"}
	case do.Fields == nil:
		return []string{"Get-VM -Name " + name + " | Remove-VM -DeletePermanently -Confirm:$false"}
	case before.Fields == nil:
		image := strings.Join(splitNames(noteWord(do.Fields["note"], "image")), "")
		return []string{host, fmt.Sprintf("New-VM -Name %s -Template %s -VMHost $h -Notes %s", name, ps(image), ps(do.Fields["note"])), "Set-VM -VM " + name + " -DrsAutomationLevel Disabled -HARestartPriority Disabled -Confirm:$false"}
	}
	return []string{host, "Get-VM -Name " + name + " | Move-VM -Destination $h | Set-VM -Notes " + ps(do.Fields["note"]) + " -Confirm:$false"}
}

func adapterCommand(before, do change) []string {
	was, want := splitNames(before.Fields["adapters"]), splitNames(do.Fields["adapters"])
	out := []string{"$v = Get-VM -Name " + ps(do.Name)}
	for _, g := range minus(was, want) {
		out = append(out, "Get-NetworkAdapter -VM $v | Where-Object NetworkName -eq "+ps(g)+" | Remove-NetworkAdapter -Confirm:$false")
	}
	for _, g := range minus(want, was) {
		out = append(out, "New-NetworkAdapter -VM $v -NetworkName "+ps(g)+" -Type Vmxnet3 -StartConnected")
	}
	switch {
	case do.Fields["power"] == "on" && before.Fields["power"] != "on":
		out = append(out, "Start-VM -VM $v")
	case do.Fields["power"] != "on" && before.Fields["power"] == "on":
		out = append([]string{out[0], "Stop-VM -VM $v -Confirm:$false"}, out[1:]...)
	}
	return out
}

func orZero(n string) string {
	if n == "" {
		return "0"
	}
	return n
}
